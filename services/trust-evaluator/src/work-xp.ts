import { type Logger, type Repetition, startRepeating } from '@lenserfight/runtime'
import type { EvaluatorStore, XpFailure } from './commit.ts'

export interface XpWorkOptions {
  readonly store: Pick<EvaluatorStore, 'workXp'>
  readonly everyMs: number
  readonly logger: Logger
}

export interface XpWork extends Repetition {
  /** Jobs done, attempts that failed, and jobs given up: anything but 0 of those last is an alarm. */
  readonly figures: () => { readonly xp: { readonly done: number; readonly failed: number; readonly dead: number } }
}

/** Jobs worked in one transaction. */
const perCall = 256

const named = ({ task, source, attempts, sqlstate }: XpFailure) => ({ task, source, attempts, sqlstate })

/**
 * Works the jobs that mint XP, take it back and count reputation. What fails is tried further by the database's own times, so
 * nothing here is lost with this process; replicas leave to each other what one of them is at.
 */
export const startXpWork = ({ store, everyMs, logger }: XpWorkOptions): XpWork => {
  const counts = { done: 0, failed: 0, dead: 0 }
  let isFailing = false

  const tell = (failures: readonly XpFailure[]): void => {
    const [first] = failures.filter(({ state }) => state === 'pending')
    if (first !== undefined && !isFailing) {
      logger.warn({ event: 'xp_job_failed', ...named(first) }, 'an XP job failed; tried further')
    }
    for (const failure of failures.filter(({ state }) => state === 'dead')) {
      logger.error({ event: 'xp_job_dead', ...named(failure) }, 'an XP job failed for the last time')
    }
  }
  const round = async (stopping: AbortSignal): Promise<void> => {
    for (let worked = perCall; worked === perCall && !stopping.aborted; ) {
      const { done, failed, dead, failures } = await store.workXp(perCall)
      counts.done += done
      counts.failed += failed + dead
      counts.dead += dead
      tell(failures)
      worked = done + failed + dead
      // What waits for its next attempt is no success.
      if (worked > 0) isFailing = failed + dead > 0
    }
  }
  const failure = { event: 'xp_work_failed', message: 'XP jobs could not be worked; tried further' }
  return { ...startRepeating({ everyMs, round, failure, logger }), figures: () => ({ xp: { ...counts } }) }
}
