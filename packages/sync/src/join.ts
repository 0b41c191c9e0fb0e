import { canonicalize } from '@lenserfight/envelope'
import { covers, emptyClock, joinClocks } from './clock.ts'
import { compareWrites } from './order.ts'
import type { Delta, ObjectState, Write } from './types.ts'

export const emptyState: ObjectState = Object.freeze({ clock: emptyClock, paths: Object.freeze({}) })

/** What a delta says, as a state: the join of it and another is that other with the edit made. */
export const stateOf = ({ actor, clock, paths }: Pick<Delta, 'actor' | 'clock' | 'paths'>): ObjectState => ({
  clock,
  paths: Object.fromEntries(Object.entries(paths).map(([path, value]) => [path, [{ actor, clock, value }]])),
})

const isSame = (a: Write, b: Write): boolean => a.actor === b.actor && canonicalize(a.value) === canonicalize(b.value)

/** Whether `other` says all that a write does: it saw it and wrote over it, or is the same. */
const replaces = (other: Write, write: Write): boolean =>
  covers(other.clock, write.clock) && (!covers(write.clock, other.clock) || isSame(other, write))

/**
 * The causally maximal writes of both, each once, in the order in which they are read. Those of one side are maximal among
 * themselves already, so only the sides are compared.
 */
const maximal = (a: readonly Write[], b: readonly Write[]): readonly Write[] => {
  const ofB = b.filter((write) => !a.some((other) => replaces(other, write)))
  if (ofB.length === 0) return a
  const ofA = a.filter((write) => !ofB.some((other) => replaces(other, write)))
  return ofA.length === 0 ? ofB : [...ofA, ...ofB].sort(compareWrites)
}

/**
 * The one join of all classes (rule 2): the join of the clocks, and per path the maximal writes of both. Commutative, associative
 * and idempotent; no path is ever dropped. A path that only one side has is that side's.
 */
export const join = (a: ObjectState, b: ObjectState): ObjectState => {
  const paths = new Map(Object.entries(a.paths))
  for (const [path, writes] of Object.entries(b.paths)) {
    const own = paths.get(path)
    paths.set(path, own === undefined ? writes : maximal(own, writes))
  }
  return { clock: joinClocks(a.clock, b.clock), paths: Object.fromEntries(paths) }
}
