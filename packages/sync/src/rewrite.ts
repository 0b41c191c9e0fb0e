import { lifePath, readingOf } from '@lenserfight/schemas'
import { covers, emptyClock, joinClocks, meetClocks } from './clock.ts'
import { linkOf } from './digest.ts'
import { read } from './read.ts'
import type { Actor, Clock, Delta, Json, ObjectName, ObjectState, Write } from './types.ts'

/** An edit that the gateway has not, and the confirmed clock that it was made on (rule 6). */
export interface Unconfirmed {
  readonly delta: Delta
  readonly base: Clock
}

/** Edits one after another by an actor that is new to the object, each with what it and those before it had seen of the others. */
const series = (
  { class: className, object }: ObjectName,
  actor: Actor,
  edits: readonly { readonly seen: Clock; readonly paths: Readonly<Record<string, Json>> }[],
): readonly Delta[] => {
  let prev: string | null = null
  let clock: Clock = emptyClock
  return edits.map(({ seen, paths }, index) => {
    clock = { ...joinClocks(clock, seen), [actor]: index + 1 }
    const delta: Delta = { class: className, object, actor, clock, paths, prev }
    prev = linkOf(delta)
    return delta
  })
}

/**
 * Rule 9: edits that cannot be admitted as they are, again by a new incarnation, each from its own base: so they stand beside what
 * they had not seen, and a person decides. They are to be merged into the confirmed state, where what they replace never was.
 * @param known the object's clock as the gateway has it: no edit claims to have seen more
 */
export const rewritten = (
  name: ObjectName,
  edits: readonly Unconfirmed[],
  known: Clock,
  actor: Actor,
): readonly Delta[] =>
  series(
    name,
    actor,
    edits.map(({ delta, base }) => ({ seen: meetClocks(base, known), paths: delta.paths })),
  )

/** What is to be written again of one path, and whether it stood beside something that the other has. */
const lacking = (className: string, path: string, writes: readonly Write[], known: Clock) => {
  const unseen = writes.filter(({ clock }) => !covers(known, clock))
  const [shown] = writes
  if (unseen[0] === undefined || shown === undefined) return undefined
  const isBeside = unseen.length < writes.length && readingOf(className, path) === 'keep'
  // Of `lww` paths only what is read counts.
  return isBeside || !covers(known, shown.clock) ? { path, write: unseen[0], isBeside } : undefined
}

/**
 * Rule 14: what an object says here and the gateway's own has not seen, as edits by a new incarnation, to be merged into the
 * gateway's. They go over what both had seen and stand beside the rest. Of sides that the gateway lacks, the first is written: the
 * others are their writers' to write. Whether the object exists is written as it reads.
 */
export const recovered = (
  name: ObjectName,
  mine: ObjectState,
  gateways: ObjectState,
  actor: Actor,
): readonly Delta[] => {
  const found = Object.entries(mine.paths)
    .map(([path, writes]) => lacking(name.class, path, writes, gateways.clock))
    .filter((each) => each !== undefined)
  const { alive } = read(name.class, mine)
  if (found.length === 0 || (!alive && Object.keys(gateways.paths).length === 0)) return []
  const life = { [lifePath]: alive ? true : null }
  const pathsOf = (isBeside: boolean) =>
    Object.fromEntries(
      found
        .filter((each) => each.path !== lifePath && each.isBeside === isBeside)
        .map(({ path, write }) => [path, write.value]),
    )
  const seen = meetClocks(mine.clock, gateways.clock)
  const beside = found.filter(({ path, isBeside }) => isBeside && path !== lifePath)
  const seenBeside = beside.reduce((met, { write }) => meetClocks(met, write.clock), seen)
  // What has seen less comes first: the other goes over its $life.
  return series(name, actor, [
    ...(beside.length > 0 ? [{ seen: seenBeside, paths: { ...pathsOf(true), ...life } }] : []),
    { seen, paths: { ...pathsOf(false), ...life } },
  ])
}
