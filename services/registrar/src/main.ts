/** The registrar: who owns what. Sessions, enrolment and owners' requests at the `ask` door; answered challenges. */
import { connectService, consume, createAnswers, createReceipts, listen } from '@lenserfight/bus'
import { createPool } from '@lenserfight/db'
import { encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
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
import { flows, limits } from '@lenserfight/schemas'
import { createAnswerer } from './ask/answer-request.ts'
import { createDesk } from './ask/request-desk.ts'
import { teachKeys } from './ask/teach-keys.ts'
import { createBudget } from './budget.ts'
import { defaultAsks, RegistrarConfig } from './config.ts'
import { readKeyMaterial } from './key-material.ts'
import { createStore } from './store.ts'
import { createTokenVerifier } from './token/verify-token.ts'
import { decode } from './verified/decode.ts'
import { createVerifiedHandler } from './verified/handle.ts'

/** Lines a second about requests: whoever knocks with garbage must not fill the disk. */
const [provenLines, unprovenLines] = [200, 20]

const config = readConfig(RegistrarConfig, process.argv.slice(2))
const { gateway_id: gatewayId, pg, nats, health } = config
const logger = createLogger({ service: config.service, replica: config.replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
// From here on, so that it can be told to stop while it still waits for the broker.
const ended = lifecycle.run()
const state = createState({ logger })
const readiness = createReadiness(state)
const { signer, keyList } = readKeyMaterial(config)

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createStore(pool)
const gate = createGate({ probe: store.probe, onProbe: readiness.setDatabase, logger })
lifecycle.onStop('gate', gate.stop, 100)

const figures: { requests?: () => object; verified?: () => object } = {}
const healthServer = await serveHealth({
  ...health,
  state: state.state,
  since: state.since,
  details: () => ({ replica: config.replica, requests: figures.requests?.(), verified: figures.verified?.() }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

const bus = await connectService({ service: 'registrar', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)
const voice = { bus, gatewayId, signer, now: Date.now }

const bounds = config.asks ?? defaultAsks
const sendAnswer = createAnswers(voice)
const desk = createDesk({
  answer: createAnswerer({ gatewayId, store, tokens: createTokenVerifier({ issuers: config.issuers }), keyList }),
  send: ({ subject, bytes }, reply) =>
    sendAnswer(subject, {
      digest: encodeBase64Url(envelopeDigest(bytes)),
      ...teachKeys(subject.kind, reply, keyList.text),
    }),
  unproven: createBudget(limits.unprovenPerSecond),
  gate,
  logger,
  lines: { proven: createBudget(provenLines), unproven: createBudget(unprovenLines) },
  bounds,
})
figures.requests = desk.figures
lifecycle.onStop('requests', desk.idle, 10_000)
// A replica that has just started takes no request from those that could answer it, only to say that it cannot yet.
await gate.looked
const requests = listen({
  bus,
  subjects: flows.registrar.subscribes,
  queue: 'registrar',
  // The desk's are the bounds that count: a message is handed over as it comes.
  maxInFlight: bounds.waiting,
  onMessage: async ({ subject, data }) => desk.offer(subject, data),
  logger,
})
lifecycle.onStop('door', requests.stop, 2000)

const verified = consume({
  bus,
  stream: 'LTG_VERIFIED',
  consumer: 'registrar',
  decode,
  ...createVerifiedHandler({ gatewayId, store, sendReceipts: createReceipts(voice), logger }),
  deadData: ({ text }) => text,
  batch: { maxMessages: 64, maxWaitMs: 5 },
  logger,
  onState: readiness.setConsumer,
})
figures.verified = verified.stats
lifecycle.onStop('verified', verified.stop, 10_000)

logger.info({ event: 'started' }, 'the registrar runs')
await ended
