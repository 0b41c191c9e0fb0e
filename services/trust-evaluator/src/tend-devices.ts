import { type Logger, type Repetition, startRepeating } from '@lenserfight/runtime'
import type { EvaluatorStore } from './commit.ts'

export interface TendingOptions {
  readonly store: Pick<EvaluatorStore, 'promote' | 'markOffline'>
  readonly everyMs: number
  readonly logger: Logger
}

export interface Tending extends Repetition {
  /** Devices brought to `trusted`, and to `offline`. */
  readonly figures: () => { readonly promoted: number; readonly offline: number }
}

/** Devices whose level changes in one transaction: their rows are locked until it ends. */
const perCall = 100

/**
 * Brings devices to the levels that follow from their history alone: `trusted` where it was earned, `offline` where nothing
 * was heard (DH-3). Replicas may both do it: a device that one is at is left to it.
 */
export const startTending = ({ store, everyMs, logger }: TendingOptions): Tending => {
  const counts = { promoted: 0, offline: 0 }
  const all = async (step: (limit: number) => Promise<number>, stopping: AbortSignal): Promise<number> => {
    let sum = 0
    for (let count = perCall; count === perCall && !stopping.aborted; sum += count) count = await step(perCall)
    return sum
  }
  const round = async (stopping: AbortSignal): Promise<void> => {
    counts.promoted += await all(store.promote, stopping)
    counts.offline += await all(store.markOffline, stopping)
  }
  const failure = { event: 'tending_failed', message: 'devices’ levels could not be brought up to date; tried further' }
  return { ...startRepeating({ everyMs, round, failure, logger }), figures: () => ({ ...counts }) }
}
