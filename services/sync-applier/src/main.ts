/** The sync-applier: merges what devices push, answers what they pull, and tells the others that something changed. */
import { connectService, consume, createNotices, createReceipts, readSigner } from '@lenserfight/bus'
import { createPool } from '@lenserfight/db'
import {
  createGate,
  createLifecycle,
  createLogger,
  createReadiness,
  createState,
  readConfig,
  readSecret,
  serveHealth,
} from '@lenserfight/runtime'
import { ApplierConfig, defaults } from './config.ts'
import { decode } from './decode.ts'
import { createHandler } from './handle.ts'
import { createStore } from './store.ts'

const config = readConfig(ApplierConfig, process.argv.slice(2))
const { gateway_id: gatewayId, pg, nats, health, replica } = config
const logger = createLogger({ service: config.service, replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
// From here on, so that it can be told to stop while it still waits for the broker.
const ended = lifecycle.run()
const state = createState({ logger })
const signer = readSigner(config.signing, ['receipt'])
const readiness = createReadiness(state)

const figures: { consumer?: () => object; applied?: () => object } = {}
const healthServer = await serveHealth({
  ...health,
  state: state.state,
  since: state.since,
  details: () => ({ replica, ...figures.applied?.(), ...figures.consumer?.() }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createStore(pool)
const gate = createGate({ probe: store.probe, onProbe: readiness.setDatabase, logger })
lifecycle.onStop('gate', gate.stop, 100)

readiness.setConsumer('connecting')
const bus = await connectService({ service: 'sync-applier', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)

const voice = { bus, gatewayId, signer, now: Date.now }
const handler = createHandler({
  ...{ gatewayId, store, logger },
  sendReceipts: createReceipts(voice),
  sendNotice: createNotices(voice),
})
figures.applied = handler.figures
const consumption = consume({
  ...{ bus, decode, logger },
  stream: 'LTG_VERIFIED',
  consumer: 'sync-applier',
  handle: handler.handle,
  deadLetter: handler.deadLetter,
  deadData: ({ text }) => text,
  batch: { maxMessages: 16, maxWaitMs: 5 },
  concurrency: config.concurrency ?? defaults.concurrency,
  onState: readiness.setConsumer,
})
figures.consumer = consumption.stats
lifecycle.onStop('consumption', consumption.stop, 10_000)

logger.info({ event: 'started' }, 'the sync-applier runs')
await ended
