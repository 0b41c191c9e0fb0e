/** The verifier: ingress to verified batches. Form, signer, signature, window, replay; nothing behind it reads a byte unverified. */
import { connectService, readSigner } from '@lenserfight/bus'
import { createPool } from '@lenserfight/db'
import {
  createGate,
  createLifecycle,
  createLogger,
  createReadiness,
  createState,
  readSecret,
  serveHealth,
} from '@lenserfight/runtime'
import { createClaimStore } from './commit.ts'
import { readVerifierConfig } from './config.ts'
import { startMaintenance } from './maintenance.ts'
import { createSignaturePool } from './signatures/pool.ts'
import { startVerifier } from './verifier.ts'

const config = readVerifierConfig(process.argv.slice(2))
const { service, replica, gateway_id: gatewayId, pg, nats, health } = config
const logger = createLogger({ service, replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
// From here on, so that it can be told to stop while it still waits for the broker.
const ended = lifecycle.run()
const holder = createState({ logger })
const signer = readSigner(config.signing, ['receipt'])

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)
const store = createClaimStore(pool)
const readiness = createReadiness(holder)
const parts: { verifier?: ReturnType<typeof startVerifier> } = {}
const healthServer = await serveHealth({
  ...health,
  state: holder.state,
  since: holder.since,
  details: () => ({ replica, ...parts.verifier?.details() }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

const signatures = await createSignaturePool({
  threads: config.signature_threads,
  ...(config.sodium === undefined ? {} : { build: config.sodium }),
})
lifecycle.onStop('signatures', signatures.close, 2000)
holder.set('connecting')
const bus = await connectService({ service: 'verifier', nats, logger })
lifecycle.onStop('bus', bus.close, 5000)
const maintenance = startMaintenance(store, logger)
lifecycle.onStop('maintenance', maintenance.stop, 5000)
const gate = createGate({ probe: store.probe, onProbe: readiness.setDatabase, logger })
lifecycle.onStop('gate', gate.stop, 100)

parts.verifier = startVerifier({
  bus,
  store,
  signatures,
  gatewayId,
  signer,
  batch: config.batch,
  signerCache: config.signer_cache,
  logger,
  onState: readiness.setConsumer,
})
lifecycle.onStop('verifier', parts.verifier.stop, 10_000)

logger.info({ event: 'started', build: signatures.build, threads: signatures.threads }, 'the verifier runs')
await ended
