import { canonicalize } from '@lenserfight/envelope'
import { lifePath } from '@lenserfight/schemas'
import { joinClocks, reservedActor, tick } from './clock.ts'
import { join, stateOf } from './join.ts'
import { read } from './read.ts'
import type { Actor, Delta, Json, ObjectName, ObjectState, Write } from './types.ts'

/** What a person changed: paths with their new values (null deletes one), or the whole object deleted or brought back. */
export type Change = { readonly paths: Readonly<Record<string, Json>> } | 'delete' | 'undelete'

/** Whether a path has this one value already and nothing beside it. */
const isSo = (state: ObjectState, path: string, value: Json): boolean => {
  const writes = Object.hasOwn(state.paths, path) ? state.paths[path] : undefined
  if (writes === undefined) return value === null
  return writes.every((write) => canonicalize(write.value) === canonicalize(value))
}

/**
 * One edit as its outbox entry (rule 5): it counts the actor's component up by one and says again that the object exists. What it
 * does not change it does not write.
 * @returns undefined where nothing would change
 */
export const edit = (
  name: ObjectName,
  state: ObjectState,
  by: { readonly actor: Actor; readonly prev: string | null },
  change: Change,
): Delta | undefined => {
  const { alive } = read(name.class, state)
  const changed =
    typeof change === 'string'
      ? {}
      : Object.fromEntries(Object.entries(change.paths).filter(([path, value]) => !isSo(state, path, value)))
  const isNothing =
    change === 'delete'
      ? isSo(state, lifePath, null)
      : alive && Object.keys(changed).length === 0 && isSo(state, lifePath, true)
  if (isNothing) return undefined
  const clock = tick(state.clock, by.actor)
  return { ...name, ...by, clock, paths: { ...changed, [lifePath]: change === 'delete' ? null : true } }
}

/** A state with a delta made. */
export const apply = (state: ObjectState, delta: Pick<Delta, 'actor' | 'clock' | 'paths'>): ObjectState =>
  join(state, stateOf(delta))

/** What differs in view between what an object reads here and a state that it is to be written on again (rules 9, 14). */
export const differences = (className: string, mine: ObjectState, base: ObjectState): Change | undefined => {
  const [wanted, found] = [read(className, mine), read(className, base)]
  if (!wanted.alive) return found.alive ? 'delete' : undefined
  const names = new Set([...Object.keys(mine.paths), ...Object.keys(base.paths)].filter((path) => path !== lifePath))
  const valueIn = (state: ObjectState, path: string): Json => state.paths[path]?.[0]?.value ?? null
  const paths = Object.fromEntries(
    [...names]
      .sort()
      .filter((path) => canonicalize(valueIn(mine, path)) !== canonicalize(valueIn(base, path)))
      .map((path) => [path, valueIn(mine, path)]),
  )
  if (Object.keys(paths).length > 0) return { paths }
  return found.alive ? undefined : 'undelete'
}

/** A path written by the gateway over everything that the object has seen (rule 12). */
export const resolved = (state: ObjectState, path: string, value: Json): ObjectState =>
  join(state, stateOf({ actor: reservedActor(), clock: tick(state.clock, reservedActor()), paths: { [path]: value } }))

/** Sides that stand beside each other once more: each written anew over everything seen, by a reserved actor of its own. */
export const reopened = (state: ObjectState, path: string, values: readonly Json[]): ObjectState => {
  const writes = values.map((value, index): Write => {
    const actor = reservedActor(index + 1)
    return { actor, clock: tick(state.clock, actor), value }
  })
  const clock = writes.reduce((joined, write) => joinClocks(joined, write.clock), state.clock)
  return join(state, { clock, paths: { [path]: writes } })
}
