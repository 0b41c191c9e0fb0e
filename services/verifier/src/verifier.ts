import { type Bus, consume, createReceipts, type Delivery } from '@lenserfight/bus'
import type { SigningKey } from '@lenserfight/envelope'
import type { Logger, WorkerState } from '@lenserfight/runtime'
import { type ClaimStore, isBrokenClock } from './commit.ts'
import { createRateBound } from './rate-bound.ts'
import { createSignatureFailures } from './signature-failures.ts'
import type { SignaturePool } from './signatures/pool.ts'
import { createSignerCache } from './signer-cache.ts'
import { createStopwatch } from './stopwatch.ts'
import { incidentReceipt, unprovenPerSecond } from './tell.ts'
import { createBatchVerifier, noCounts } from './verify-batch.ts'

export interface VerifierOptions {
  readonly bus: Bus
  readonly store: ClaimStore
  readonly signatures: SignaturePool
  readonly gatewayId: string
  readonly signer: SigningKey
  readonly batch: { readonly max_messages: number; readonly max_wait_ms: number; readonly in_flight: number }
  readonly signerCache: number
  readonly logger: Logger
  readonly onState: (state: WorkerState, reason?: string) => void
}

/** A broker whose clock is ahead makes every judgement of time worthless: the batch is held, and somebody has to look. */
const withClockAlarm =
  (claim: ClaimStore['claim'], logger: Logger): ClaimStore['claim'] =>
  async (batch) => {
    try {
      return await claim(batch)
    } catch (error) {
      if (isBrokenClock(error)) logger.error({ event: 'clock_broken' }, 'the broker is ahead of the database in time')
      throw error
    }
  }

/** Consumes the ingress stream: verifies, claims, publishes, tells. Replicas share the work. */
export const startVerifier = (options: VerifierOptions) => {
  const { bus, store, signatures, gatewayId, signer, batch, logger, onState } = options
  const signers = createSignerCache(store.loadSigners, options.signerCache)
  const tell = createReceipts({ bus, gatewayId, signer, now: Date.now })
  const failures = createSignatureFailures()
  const counts = noCounts()
  const stopwatch = createStopwatch()

  const consumption = consume<Delivery>({
    bus,
    stream: 'LTG_INGRESS',
    consumer: 'verifier',
    decode: (delivery) => [delivery],
    handle: createBatchVerifier({
      gatewayId,
      signers,
      signatures,
      claim: withClockAlarm(store.claim, logger),
      publish: ({ subject, text }) => bus.publish(subject, text),
      tell,
      allowUnproven: createRateBound(unprovenPerSecond),
      failures,
      counts,
      stopwatch,
    }),
    batch: { maxMessages: batch.max_messages, maxWaitMs: batch.max_wait_ms },
    concurrency: batch.in_flight,
    deadLetter: (_, { incidentId, delivery }) => tell(incidentReceipt(delivery, incidentId)),
    logger,
    onState,
  })
  const details = () => ({
    ...counts,
    signature_failures: failures.summary(),
    signers: signers.size(),
    signatures: { build: signatures.build, threads: signatures.threads },
    consumption: consumption.stats(),
    stages_ms: stopwatch.times(),
  })
  return { stop: consumption.stop, details }
}
