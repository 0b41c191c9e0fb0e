import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError, type Logger } from '@lenserfight/runtime'
import type { EvaluatorStore } from './commit.ts'

export interface ReevaluationOptions {
  readonly store: Pick<EvaluatorStore, 'reevaluate'>
  readonly everyMs: number
  readonly logger: Logger
}

export interface Reevaluation {
  /** Ends after what is under way. */
  readonly stop: () => Promise<void>
  readonly figures: () => { readonly judged: number }
}

/** Runs judged in one transaction. */
const perCall = 256

/**
 * Judges runs again when that is due (trust.md, rules 3 and 15), for ever. Replicas share the work: what one judges is
 * left to it. While the database is gone it waits; nothing is lost, since what is due stands there.
 */
export const startReevaluation = ({ store, everyMs, logger }: ReevaluationOptions): Reevaluation => {
  const stopping = new AbortController()
  let judged = 0
  let isFailing = false

  const round = async (): Promise<void> => {
    let count = perCall
    while (count === perCall && !stopping.signal.aborted) {
      count = await store.reevaluate(perCall)
      judged += count
    }
  }
  const tell = (error: unknown): void => {
    if (isFailing) return
    isFailing = true
    const level = error instanceof InfrastructureError ? 'warn' : 'error'
    logger[level]({ event: 'reevaluation_failed', err: error }, 'runs could not be judged again; tried further')
  }
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        await round()
        isFailing = false
      } catch (error) {
        tell(error)
      }
      // Jitter, so that replicas do not ask at the same moment.
      await sleep(everyMs * (0.75 + Math.random() / 2), undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const running = loop()
  const stop = async (): Promise<void> => {
    stopping.abort()
    await running
  }
  return { stop, figures: () => ({ judged }) }
}
