/** broker-auth: says for each connection whether it may come in, and to which subjects. */
import { connectService, connectSystem } from '@lenserfight/bus'
import { createPool, listenToNotices } from '@lenserfight/db'
import { createGate, createLifecycle, createLogger, createState, readSecret, serveHealth } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import { createAdmissions } from './admissions.ts'
import { type Callout, startCallout } from './callout.ts'
import { readBrokerAuthConfig } from './config.ts'
import { type Cutter, startCutter } from './cutter.ts'
import { createJudge } from './judge.ts'
import { createJwtSigner } from './jwt.ts'
import { decodeAccountSeed } from './nkey.ts'
import { createRateBound } from './rate-bound.ts'
import { createStore } from './store.ts'

const config = readBrokerAuthConfig(process.argv.slice(2))
const { service, replica, pg, nats, gateway_id: gatewayId } = config
const logger = createLogger({ service, replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
const ended = lifecycle.run()
const holder = createState({ logger })
const signer = createJwtSigner(decodeAccountSeed(readSecret(config.callout_seed_file)))
const deadlineMs = config.deadline_ms ?? 4000

const timing = { statementTimeoutMs: deadlineMs, connectTimeoutMs: deadlineMs }
const password = readSecret(pg.password_file)
const pool = createPool({ ...pg, password, logger, ...timing })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createStore(pool)
const parts: { callout?: Callout; cutter?: Cutter } = {}
const health = await serveHealth({
  ...config.health,
  state: holder.state,
  since: holder.since,
  details: () => ({ replica, ...parts.callout?.details(), cutter: parts.cutter?.details() }),
  logger,
})
lifecycle.onStop('health', health.close, 1000)

holder.set('connecting')
const bus = await connectService({ service: 'broker-auth', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)
// Nobody is let in before there is a way to cut them off.
const system = await connectSystem({ nats: { ...nats, seed_file: config.system_seed_file }, logger })
lifecycle.onStop('system', system.close, 5000)
// Without the database nobody is admitted (law 6), so it is not ready then.
const onProbe = (isOpen: boolean): void => {
  if (!bus.isConnected() || !system.isConnected()) holder.set('connecting', 'broker')
  else holder.set(isOpen ? 'consuming' : 'holding', isOpen ? undefined : 'database')
}
const gate = createGate({ probe: store.probe, onProbe, logger })
lifecycle.onStop('gate', gate.stop, 100)
for (const { events } of [bus, system]) events.on('connected', gate.suspect).on('disconnected', gate.suspect)

const cutter = startCutter({
  admissions: createAdmissions(pool),
  kick: system.kick,
  isOpen: () => gate.isOpen() && system.isConnected(),
  onInfrastructure: gate.suspect,
  logger,
})
parts.cutter = cutter
lifecycle.onStop('cutter', cutter.stop, 2000)
const notices = listenToNotices({
  connection: { ...pg, password },
  channel: 'ltg_cut',
  onNotice: cutter.look,
  logger,
})
lifecycle.onStop('notices', notices.stop, 5000)

// A replica that has just started takes no connection from those that could admit it, only to say that it cannot yet.
await gate.looked
parts.callout = startCallout({
  bus,
  signer,
  judge: createJudge({ gatewayId, store, mayBeUnproven: createRateBound(limits.unprovenPerSecond) }),
  deadlineMs,
  maxInFlight: config.max_in_flight ?? 1024,
  logger,
  isOpen: gate.isOpen,
  onInfrastructure: gate.suspect,
})
lifecycle.onStop('callout', parts.callout.stop, deadlineMs)
lifecycle.onStop('state', () => holder.set('stopping'), 100)

logger.info({ event: 'started', issuer: signer.issuer.slice(0, 8) }, 'broker-auth runs')
await ended
