import { lifePath, type ReasonCode } from '@lenserfight/schemas'
import { countOf } from './clock.ts'
import type { Clock, Delta } from './types.ts'

/** What is known of an object where a delta arrives, under the object's lock. */
export interface Known {
  /** The join of everything merged. */
  readonly clock: Clock
  /** The link of this actor's newest edit; null where it has none. */
  readonly link: string | null
  /** The link of this actor's edit with the delta's number, where there is one and it is on record still. */
  readonly linkAt?: string
}

export type Admission =
  | 'admitted'
  | 'duplicate'
  | Extract<ReasonCode, 'clock_reused' | 'out_of_order' | 'clock_ahead' | 'invalid_object'>

/**
 * Whether a delta may be merged (rule 7). Nobody inflates a clock, and no clock claims what was not seen. An edit that does not
 * say whether its object exists (rule 5), or does not count itself, is none.
 * @param link of the delta, by `linkOf`
 */
export const admit = (known: Known, delta: Delta, link: string): Admission => {
  const n = countOf(delta.clock, delta.actor)
  if (n === 0 || !Object.hasOwn(delta.paths, lifePath)) return 'invalid_object'
  const last = countOf(known.clock, delta.actor)
  if (n <= last) return (n === last ? known.link : known.linkAt) === link ? 'duplicate' : 'clock_reused'
  if (n > last + 1) return 'out_of_order'
  if (delta.prev !== known.link) return 'clock_reused'
  const isAhead = Object.entries(delta.clock).some(
    ([actor, count]) => actor !== delta.actor && count > countOf(known.clock, actor),
  )
  return isAhead ? 'clock_ahead' : 'admitted'
}
