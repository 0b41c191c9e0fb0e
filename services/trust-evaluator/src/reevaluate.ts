import { type Logger, type Repetition, startRepeating } from '@lenserfight/runtime'
import type { EvaluatorStore } from './commit.ts'

export interface ReevaluationOptions {
  readonly store: Pick<EvaluatorStore, 'queueCompromised' | 'queueInvalidated' | 'reevaluate'>
  readonly everyMs: number
  /** Runs queued or judged in one transaction. */
  readonly perCall?: number
  readonly logger: Logger
}

export interface Reevaluation extends Repetition {
  readonly figures: () => { readonly judged: number }
}

/**
 * Judges runs again when that is due (trust.md, rules 3 and 15), for ever, and queues those that a compromise or claims
 * declared void concern (rules 8 and 12). Replicas share the work: what one judges is left to it. While the database is gone
 * it waits; nothing is lost, since what is due stands there.
 */
export const startReevaluation = ({ store, everyMs, perCall = 256, logger }: ReevaluationOptions): Reevaluation => {
  let judged = 0
  /** Fewer after each failure, since those due longest may be too much for one statement; more again where it goes well. */
  let most = perCall
  const judge = async (stopping: AbortSignal): Promise<void> => {
    for (let asked = 0, count = 0; count === asked && !stopping.aborted; judged += count) {
      asked = most
      // What is kept where it throws.
      most = Math.ceil(asked / 2)
      count = await store.reevaluate(asked)
      most = Math.min(asked * 2, perCall)
    }
  }
  const round = async (stopping: AbortSignal): Promise<void> => {
    // Judged as they are queued, so that the queue never holds more than a few steps of a device's whole history; in turns,
    // so that claims declared void do not wait until the last of somebody's million runs is queued.
    let queues = [store.queueCompromised, store.queueInvalidated]
    while (queues.length > 0 && !stopping.aborted) {
      const unfinished: typeof queues = []
      for (const queue of queues) {
        if ((await queue(perCall)) === perCall) unfinished.push(queue)
        await judge(stopping)
      }
      queues = unfinished
    }
  }
  const failure = { event: 'reevaluation_failed', message: 'runs could not be judged again; tried further' }
  return { ...startRepeating({ everyMs, round, failure, logger }), figures: () => ({ judged }) }
}
