import { joinClocks, reservedActor, tick } from './clock.ts'
import { join, stateOf } from './join.ts'
import type { Json, ObjectState, Write } from './types.ts'

/** A path written by the gateway over everything that the object has seen (rule 12). */
export const resolved = (state: ObjectState, path: string, value: Json): ObjectState =>
  join(state, stateOf({ actor: reservedActor(), clock: tick(state.clock, reservedActor()), paths: { [path]: value } }))

/**
 * Sides that stand beside each other once more: each written anew over everything seen, by a reserved actor of its own. Of equal
 * sums the later incarnation is read (rule 3), so the first side has the last one and is shown again.
 */
export const reopened = (state: ObjectState, path: string, values: readonly Json[]): ObjectState => {
  const writes = values.map((value, index): Write => {
    const actor = reservedActor(values.length - index)
    return { actor, clock: tick(state.clock, actor), value }
  })
  const clock = writes.reduce((joined, write) => joinClocks(joined, write.clock), state.clock)
  return join(state, { clock, paths: { [path]: writes } })
}
