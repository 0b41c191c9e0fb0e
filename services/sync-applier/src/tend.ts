import { type Logger, type Repetition, startRepeating } from '@lenserfight/runtime'
import type { ApplierStore } from './store.ts'

export interface TendingOptions {
  readonly store: Pick<ApplierStore, 'compact' | 'archive'>
  readonly everyMs: number
  readonly logger: Logger
}

export interface Tending extends Repetition {
  /** Changes and objects that were forgotten, and edits that were archived. */
  readonly figures: () => { readonly forgotten: number; readonly archived: number }
}

/** What one transaction forgets or archives. */
const perCall = 1000

/**
 * Forgets what every device has, feed by feed, and archives edits that are old enough. Replicas may both do it: what one is at is
 * left to it.
 */
export const startTending = ({ store, everyMs, logger }: TendingOptions): Tending => {
  const counts = { forgotten: 0, archived: 0 }
  const round = async (stopping: AbortSignal): Promise<void> => {
    for (let isDue = true; isDue && !stopping.aborted; ) {
      const compacted = await store.compact(perCall)
      counts.forgotten += compacted.forgotten
      isDue = compacted.isDue
    }
    for (let count = perCall; count === perCall && !stopping.aborted; counts.archived += count) {
      count = await store.archive(perCall)
    }
  }
  const failure = { event: 'tending_failed', message: 'feeds could not be compacted; tried further' }
  return { ...startRepeating({ everyMs, round, failure, logger }), figures: () => ({ ...counts }) }
}
