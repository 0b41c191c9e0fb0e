/** The trust-evaluator: applies heartbeats, runs and attestations, and derives from them what an execution is trusted. */
import { connectService, consume, createReceipts, readSigner } from '@lenserfight/bus'
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
import { createStore } from './commit.ts'
import { defaults, EvaluatorConfig } from './config.ts'
import { decode } from './decode.ts'
import { createHandler } from './handle.ts'
import { startReevaluation } from './reevaluate.ts'
import { startTending } from './tend-devices.ts'
import { startForkWatch } from './watch-forks.ts'
import { startXpWork } from './work-xp.ts'

const config = readConfig(EvaluatorConfig, process.argv.slice(2))
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
  reevaluation?: () => object
  tending?: () => object
  forks?: () => object
  xp?: () => object
} = {}
const healthServer = await serveHealth({
  ...health,
  state: state.state,
  since: state.since,
  details: () => ({
    replica,
    ...figures.applied?.(),
    ...figures.consumer?.(),
    ...figures.reevaluation?.(),
    ...figures.tending?.(),
    ...figures.forks?.(),
    ...figures.xp?.(),
  }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createStore(pool)
const gate = createGate({ probe: store.probe, onProbe: readiness.setDatabase, logger })
lifecycle.onStop('gate', gate.stop, 100)
const reevaluation = startReevaluation({ store, everyMs: config.reevaluate_ms ?? defaults.reevaluateMs, logger })
figures.reevaluation = reevaluation.figures
lifecycle.onStop('reevaluation', reevaluation.stop, 10_000)
const tending = startTending({ store, everyMs: config.tend_ms ?? defaults.tendMs, logger })
figures.tending = tending.figures
lifecycle.onStop('tending', tending.stop, 10_000)
const forkWatch = startForkWatch({
  ...{ gatewayId, store, logger },
  everyMs: config.forks_ms ?? defaults.forksMs,
  settleEveryMs: config.settle_ms ?? defaults.settleMs,
})
figures.forks = forkWatch.figures
lifecycle.onStop('forks', forkWatch.stop, 10_000)
const xpWork = startXpWork({ store, everyMs: config.xp_ms ?? defaults.xpMs, logger })
figures.xp = xpWork.figures
lifecycle.onStop('xp', xpWork.stop, 10_000)

readiness.setConsumer('connecting')
const bus = await connectService({ service: 'trust-evaluator', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)

const sendReceipts = createReceipts({ bus, gatewayId, signer, now: Date.now })
const handler = createHandler({ gatewayId, store, sendReceipts, logger })
figures.applied = handler.figures
const consumption = consume({
  bus,
  stream: 'LTG_VERIFIED',
  consumer: 'trust-evaluator',
  decode,
  handle: handler.handle,
  deadLetter: handler.deadLetter,
  deadData: ({ text }) => text,
  batch: { maxMessages: 16, maxWaitMs: 5 },
  concurrency: config.concurrency ?? defaults.concurrency,
  logger,
  onState: readiness.setConsumer,
})
figures.consumer = consumption.stats
lifecycle.onStop('consumption', consumption.stop, 10_000)

logger.info({ event: 'started' }, 'the trust-evaluator runs')
await ended
