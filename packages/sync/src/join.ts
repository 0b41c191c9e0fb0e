import { canonicalize } from '@lenserfight/envelope'
import { emptyClock, isBefore, joinClocks } from './clock.ts'
import { compareWrites } from './order.ts'
import type { Delta, ObjectState, Write } from './types.ts'

export const emptyState: ObjectState = Object.freeze({ clock: emptyClock, paths: {} })

/** What a delta says, as a state: the join of it and another is that other with the edit made. */
export const stateOf = ({ actor, clock, paths }: Pick<Delta, 'actor' | 'clock' | 'paths'>): ObjectState => ({
  clock,
  paths: Object.fromEntries(Object.entries(paths).map(([path, value]) => [path, [{ actor, clock, value }]])),
})

/** The causally maximal of these writes, each once, in the order in which they are read. */
const maximal = (writes: readonly Write[]): readonly Write[] => {
  const distinct = new Map(writes.map((write) => [canonicalize(write), write]))
  const each = [...distinct.values()]
  return each.filter((write) => !each.some((other) => isBefore(write.clock, other.clock))).sort(compareWrites)
}

/**
 * The one join of all classes (rule 2): the join of the clocks, and per path the maximal writes of both. Commutative, associative
 * and idempotent; no path is ever dropped. A path that only one side has is that side's.
 */
export const join = (a: ObjectState, b: ObjectState): ObjectState => {
  const paths: Record<string, readonly Write[]> = { ...a.paths }
  for (const [path, writes] of Object.entries(b.paths)) {
    const own = Object.hasOwn(paths, path) ? paths[path] : undefined
    paths[path] = own === undefined ? writes : maximal([...own, ...writes])
  }
  return { clock: joinClocks(a.clock, b.clock), paths }
}
