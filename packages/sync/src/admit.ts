import { lifePath, limits, type ReasonCode } from '@lenserfight/schemas'
import { countOf, covers, partsOf } from './clock.ts'
import type { Clock, Delta, ObjectState } from './types.ts'

/** What is known of an object where a delta arrives, under the object's lock. */
export interface Known {
  /** The join of everything merged. */
  readonly clock: Clock
  /** The writes that stand there. */
  readonly paths: ObjectState['paths']
  /** The link of this actor's newest edit; null where it has none. */
  readonly link: string | null
  /**
   * The link of this actor's edit with the delta's number, where there is one and it is on record still: also of an object of
   * that name that was forgotten since.
   */
  readonly linkAt?: string
}

export type Admission =
  | 'admitted'
  | 'duplicate'
  | Extract<ReasonCode, 'clock_reused' | 'out_of_order' | 'clock_ahead' | 'invalid_object' | 'object_too_large'>

/** Whether an edit has seen whatever else of its own actor stands there. */
const hasSeenOwn = ({ paths }: Known, { actor, clock }: Delta): boolean =>
  Object.values(paths).every((writes) => writes.every((write) => write.actor !== actor || covers(clock, write.clock)))

/** Whether an edit makes its device one writer more of the object than one device may be. */
const isOneWriterTooMany = ({ clock }: Known, { actor }: Delta): boolean => {
  if (Object.hasOwn(clock, actor)) return false
  const { deviceId } = partsOf(actor)
  const own = Object.keys(clock).filter((each) => partsOf(each).deviceId === deviceId)
  return own.length >= limits.incarnationsPerObject
}

/**
 * Whether a delta may be merged (rule 7). Nobody inflates a clock, and no clock claims what was not seen. An edit that does not
 * say whether its object exists (rule 5), or does not count itself, is none; nor is one that has not seen what its own actor wrote:
 * so an actor has one write at a path at most, and no path more than there are actors. No device fills an object's clock alone.
 * @param link of the delta, by `linkOf`
 */
export const admit = (known: Known, delta: Delta, link: string): Admission => {
  const n = countOf(delta.clock, delta.actor)
  if (n === 0 || !Object.hasOwn(delta.paths, lifePath)) return 'invalid_object'
  const last = countOf(known.clock, delta.actor)
  if (n <= last) return (n === last ? known.link : known.linkAt) === link ? 'duplicate' : 'clock_reused'
  if (n > last + 1) return 'out_of_order'
  if (delta.prev !== known.link || known.linkAt !== undefined) return 'clock_reused'
  const isAhead = Object.entries(delta.clock).some(
    ([actor, count]) => actor !== delta.actor && count > countOf(known.clock, actor),
  )
  if (isAhead) return 'clock_ahead'
  if (!hasSeenOwn(known, delta)) return 'invalid_object'
  return isOneWriterTooMany(known, delta) ? 'object_too_large' : 'admitted'
}
