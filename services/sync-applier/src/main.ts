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
import { startSequencing } from './sequence.ts'
import { createStore } from './store.ts'
import { startTending } from './tend.ts'

const config = readConfig(ApplierConfig, process.argv.slice(2))
const { gateway_id: gatewayId, pg, nats, health, replica } = config
const logger = createLogger({ service: config.service, replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
// From here on, so that it can be told to stop while it still waits for the broker.
const ended = lifecycle.run()
const state = createState({ logger })
const signer = readSigner(config.signing, ['receipt'])
const readiness = createReadiness(state)

const figures: {
  consumer?: () => object
  applied?: () => object
  sequencing?: () => object
  tending?: () => object
} = {}
const healthServer = await serveHealth({
  ...health,
  state: state.state,
  since: state.since,
  details: () => ({
    replica,
    ...figures.applied?.(),
    ...figures.consumer?.(),
    ...figures.sequencing?.(),
    ...figures.tending?.(),
  }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createStore(pool)
const gate = createGate({ probe: store.probe, onProbe: readiness.setDatabase, logger })
lifecycle.onStop('gate', gate.stop, 100)
const tending = startTending({ store, everyMs: config.tend_ms ?? defaults.tendMs, logger })
figures.tending = tending.figures
lifecycle.onStop('tending', tending.stop, 10_000)

readiness.setConsumer('connecting')
const bus = await connectService({ service: 'sync-applier', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)

const voice = { bus, gatewayId, signer, now: Date.now }
const sendNotice = createNotices(voice)
const sequencing = startSequencing({
  ...{ store, sendNotice, logger },
  everyMs: config.sequence_ms ?? defaults.sequenceMs,
})
figures.sequencing = sequencing.figures
lifecycle.onStop('sequencing', sequencing.stop, 10_000)
const handler = createHandler({ gatewayId, store, sendReceipts: createReceipts(voice), sendNotice, logger })
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
