import { canonicalize } from '@lenserfight/envelope'
import { lifePath } from '@lenserfight/schemas'
import { tick } from './clock.ts'
import { join, stateOf } from './join.ts'
import { read } from './read.ts'
import type { Actor, Delta, Json, ObjectName, ObjectState } from './types.ts'

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
  const wanted = typeof change === 'string' ? {} : change.paths
  const changed = Object.entries(wanted).filter(([path, value]) => path !== lifePath && !isSo(state, path, value))
  const isNothing =
    change === 'delete'
      ? isSo(state, lifePath, null)
      : changed.length === 0 && read(name.class, state).alive && isSo(state, lifePath, true)
  if (isNothing) return undefined
  const clock = tick(state.clock, by.actor)
  const { class: className, object } = name
  const paths = Object.fromEntries([...changed, [lifePath, change === 'delete' ? null : true]])
  return { class: className, object, ...by, clock, paths }
}

/** A state with a delta made. */
export const apply = (state: ObjectState, delta: Pick<Delta, 'actor' | 'clock' | 'paths'>): ObjectState =>
  join(state, stateOf(delta))
