/** The provisioner: streams and consumers are what the topology table says, or the stack is not ready. */
import { connectService } from '@lenserfight/bus'
import { createLifecycle, createLogger, createState, serveHealth } from '@lenserfight/runtime'
import { readProvisionerConfig } from './config.ts'
import { startWatch, type Watch } from './watch.ts'

const config = readProvisionerConfig(process.argv.slice(2))
const logger = createLogger({ service: config.service, replica: config.replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
const ended = lifecycle.run()
const holder = createState({ logger })
const parts: { watch?: Watch } = {}

const health = await serveHealth({
  ...config.health,
  state: holder.state,
  since: holder.since,
  details: () => parts.watch?.details() ?? {},
  logger,
})
lifecycle.onStop('health', health.close, 1000)

holder.set('connecting')
const bus = await connectService({ service: 'provisioner', nats: config.nats, logger })
lifecycle.onStop('bus', bus.close, 5000)
parts.watch = startWatch({ bus, holder, logger, lookMs: config.look_ms ?? 1000 })
lifecycle.onStop('watch', parts.watch.stop, 5000)
lifecycle.onStop('state', () => holder.set('stopping'), 100)

logger.info({ event: 'started' }, 'the provisioner runs')
await ended
