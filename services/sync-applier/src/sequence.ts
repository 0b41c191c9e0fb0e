import type { Change } from '@lenserfight/bus'
import { type Logger, type Repetition, startRepeating } from '@lenserfight/runtime'
import { digestOf, type ObjectState } from '@lenserfight/sync'
import type { ApplierStore } from './store.ts'

/** Keys taken off the queue, and the objects of theirs that need a digest. */
export interface Taken {
  readonly taken: number
  readonly objects: readonly (Named & { readonly state: ObjectState })[]
}
interface Named {
  readonly lenser: string
  readonly class: string
  readonly object: string
}
/** An object's digest. */
export interface Sequenced extends Named {
  readonly digest: string
}

/** The digest of each object that was taken. Pure. */
export const digestsOf = ({ objects }: Taken): readonly Sequenced[] =>
  objects.map(({ state, ...name }) => ({ ...name, digest: digestOf(state) }))

export interface SequencingOptions {
  readonly store: Pick<ApplierStore, 'sequence'>
  readonly sendNotice: (notice: Change) => void
  readonly everyMs: number
  /** Keys taken in one transaction: their objects are locked until it ends, and each may be large. */
  readonly perCall?: number
  readonly logger: Logger
}

export interface Sequencing extends Repetition {
  /** Keys worked off. */
  readonly figures: () => { readonly sequenced: number }
}

/**
 * Tells feeds what the cloud wrote (sync.md, rules 12 and 13), for ever: policies, totals, evaluations, and what a person decided
 * of a conflict. Replicas share the work: what one is at is left to it. What one that dies had taken is there again.
 */
export const startSequencing = (options: SequencingOptions): Sequencing => {
  const { store, sendNotice, everyMs, perCall = 128, logger } = options
  let sequenced = 0
  /** Fewer after each failure, since those that have waited longest may be too much for one statement. */
  let most = perCall
  const round = async (stopping: AbortSignal): Promise<void> => {
    for (let asked = 0, taken = 0; taken === asked && !stopping.aborted; sequenced += taken) {
      asked = most
      // What is kept where it throws.
      most = Math.ceil(asked / 2)
      const told = await store.sequence(asked, digestsOf)
      taken = told.taken
      for (const notice of told.notices) sendNotice(notice)
      most = Math.min(asked * 2, perCall)
    }
  }
  const failure = { event: 'sequencing_failed', message: 'what the cloud wrote could not be told; tried further' }
  return { ...startRepeating({ everyMs, round, failure, logger }), figures: () => ({ sequenced }) }
}
