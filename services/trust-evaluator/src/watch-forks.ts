import { type Logger, type Repetition, short, startRepeating } from '@lenserfight/runtime'
import type { EvaluatorStore } from './commit.ts'
import { judgeFork, type Suspicion } from './judge-fork.ts'

export interface ForkWatchOptions {
  readonly gatewayId: string
  readonly store: Pick<EvaluatorStore, 'forkSuspicions' | 'proveFork' | 'dismissFork' | 'settleCounters'>
  /** Between looks at suspicions, and between steps of forgetting what was counted long ago. Milliseconds. */
  readonly everyMs: number
  readonly settleEveryMs: number
  readonly logger: Logger
}

export interface ForkWatch extends Repetition {
  /** Devices whose key two hold, and suspicions that came to nothing: anything but 0 of those is an alarm. */
  readonly figures: () => { readonly forks: number; readonly false_suspicions: number }
}

/** Suspicions looked at in one round; the others wait for the next. */
const perRound = 64
/** Envelopes forgotten in one transaction. */
const perCall = 1000

/**
 * Looks at what seems to be signed by two holders of one key, and keeps the counters bounded. Replicas may both do it: a
 * suspicion is closed once.
 */
export const startForkWatch = (options: ForkWatchOptions): ForkWatch => {
  const { gatewayId, store, everyMs, settleEveryMs, logger } = options
  const counts = { forks: 0, false_suspicions: 0 }

  const look = async (suspicion: Suspicion): Promise<void> => {
    const { deviceId: kid, keyNumber: key_number } = suspicion
    const verdict = judgeFork(suspicion, gatewayId)
    if (verdict.isProven) {
      if (!(await store.proveFork(suspicion))) return
      counts.forks += 1
      logger.warn({ event: 'identity_forked', kid, key_number }, 'two sign with one device’s key')
    } else if (await store.dismissFork(suspicion, verdict.forged)) {
      counts.false_suspicions += 1
      const forged = verdict.forged.map((digest) => short(Buffer.from(digest).toString('base64url')))
      // The database takes envelopes from appliers, who check them, and from verifiers' claims: one of those lies.
      logger.error({ event: 'fork_unproven', kid, key_number, forged }, 'a suspicion against a device proved nothing')
    }
  }
  const looking = startRepeating({
    everyMs,
    round: async (stopping) => {
      for (const suspicion of await store.forkSuspicions(perRound)) if (!stopping.aborted) await look(suspicion)
    },
    failure: { event: 'fork_watch_failed', message: 'suspicions of forks could not be looked at; tried further' },
    logger,
  })
  const settling = startRepeating({
    everyMs: settleEveryMs,
    round: async (stopping) => {
      for (let count = perCall; count === perCall && !stopping.aborted; ) count = await store.settleCounters(perCall)
    },
    failure: { event: 'counters_unsettled', message: 'old counters could not be forgotten; tried further' },
    logger,
  })
  const stop = async (): Promise<void> => {
    await Promise.all([looking.stop(), settling.stop()])
  }
  return { stop, figures: () => ({ ...counts }) }
}
