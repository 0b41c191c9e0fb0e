import { canonicalize } from '@lenserfight/envelope'
import { classRefusal, type ReasonCode } from '@lenserfight/schemas'
import {
  actorOf,
  apply,
  type Change,
  type Clock,
  covers,
  type Delta,
  edit,
  emptyClock,
  emptyState,
  entryOf,
  join,
  joinClocks,
  linkOf,
  type ObjectName,
  type ObjectState,
  recovered,
  rewritten,
} from '@lenserfight/sync'
import { type Editor, isPending, type Kept, type ObjectRecord, type OutboxEntry } from './types.ts'

// What becomes of one object, with no I/O: each takes an object with its edits and gives it anew, or null where nothing of
// it is left.

const newRecord = ({ class: className, object }: ObjectName, now: number): ObjectRecord => ({
  ...{ class: className, object, local: emptyState, confirmed: null, incarnation: 0, link: null },
  ...{ isRebasing: false, rebasedAt: null, notBefore: 0, setAside: null, changedAt: now },
})
const isPushable = (className: string): boolean => classRefusal(className) === null
const nameOf = ({ class: className, object }: ObjectRecord): ObjectName => ({ class: className, object })

const newEntry = (delta: Delta, base: Clock, now: number): OutboxEntry => ({
  ...{ delta, base, opId: null, isApplied: false, createdAt: now },
  bytes: Buffer.byteLength(canonicalize(entryOf(delta))),
})

/** What the gateway is known to have: its feed's word and what its receipts said since. */
const basisOf = ({ record, entries }: Kept): ObjectState =>
  entries.filter(({ isApplied }) => isApplied).reduce((state, { delta }) => apply(state, delta), confirmedOf(record))
const confirmedOf = ({ confirmed }: ObjectRecord): ObjectState => confirmed ?? emptyState

/**
 * A later incarnation than any that edited this object here. Never a small number: the gateway may know those of an object of
 * this name that both have forgotten since.
 */
const nextIncarnation = ({ incarnation }: ObjectRecord, now: number): number => Math.max(now, incarnation + 1)

const linkOfLast = (deltas: readonly Delta[]): string | null => {
  const last = deltas.at(-1)
  return last === undefined ? null : linkOf(last)
}

/** An object as a basis has it, with these edits of a new writer and none of those that it had. */
const writtenAnew = (kept: Kept, basis: ObjectState, edits: readonly OutboxEntry[], by: Editor): Kept => {
  const deltas = edits.map(({ delta }) => delta)
  const record = {
    ...kept.record,
    local: deltas.reduce(apply, basis),
    // Who never edited it is no former writer of it.
    incarnation: edits.length + kept.record.incarnation > 0 ? nextIncarnation(kept.record, by.now) : 0,
    link: linkOfLast(deltas),
    changedAt: by.now,
  }
  return { record, entries: [...kept.entries.filter(({ isApplied }) => isApplied), ...edits] }
}

/** What stands here and a basis has not seen, as edits of a new writer on it (rule 14). */
const recoveredOn = (kept: Kept, basis: ObjectState, wanted: ObjectState, by: Editor): Kept => {
  const { record } = kept
  const actor = actorOf(by.deviceId, nextIncarnation(record, by.now))
  const deltas = isPushable(record.class) ? recovered(nameOf(record), wanted, basis, actor) : []
  const edits = deltas.map((delta) => newEntry(delta, confirmedOf(record).clock, by.now))
  return writtenAnew(kept, basis, edits, by)
}

/**
 * An edit (rule 5). An object that was set aside is written on what the gateway has, with everything that differs from it.
 * @returns the same object where nothing would change
 */
export const edited = (before: Kept | undefined, name: ObjectName, change: Change, by: Editor): Kept => {
  const kept = before ?? { record: newRecord(name, by.now), entries: [] }
  const { record, entries } = kept
  const incarnation = record.incarnation || nextIncarnation(record, by.now)
  const actor = actorOf(by.deviceId, incarnation)
  const delta = edit(name, record.local, { actor, prev: record.link }, change)
  if (record.setAside !== null) {
    const wanted = delta === undefined ? record.local : apply(record.local, delta)
    const free = { ...kept, record: { ...record, setAside: null, notBefore: 0 } }
    return recoveredOn(free, basisOf(kept), wanted, by)
  }
  if (delta === undefined) return kept
  return {
    record: { ...record, incarnation, link: linkOf(delta), local: apply(record.local, delta), changedAt: by.now },
    entries: [...entries, newEntry(delta, confirmedOf(record).clock, by.now)],
  }
}

/** Gives up what was set aside: the object is again as the gateway has it. */
export const discarded = (kept: Kept, { now }: Editor): Kept | null => {
  if (kept.record.setAside === null) return kept
  if (kept.record.confirmed === null && kept.entries.length === 0) return null
  // A later writer: the numbers of what is given up were said already.
  const incarnation = nextIncarnation(kept.record, now)
  const record = { ...kept.record, local: basisOf(kept), incarnation, link: null, setAside: null, changedAt: now }
  return { ...kept, record }
}

/** The feed's state of an object is joined, never put in its place: an edit made meanwhile stays (rule 8). */
export const merged = (before: Kept | undefined, name: ObjectName, state: ObjectState, now: number): Kept => {
  const { record, entries } = before ?? { record: newRecord(name, now), entries: [] }
  const confirmed = join(confirmedOf(record), state)
  return {
    record: { ...record, confirmed, local: join(record.local, state), changedAt: now },
    entries: entries.filter(({ isApplied, delta }) => !(isApplied && covers(confirmed.clock, delta.clock))),
  }
}

/** The gateway no longer has it. What was edited here and not merged stays, and is judged when it is pushed. */
export const dropped = ({ record, entries }: Kept): Kept | null => {
  const pending = entries.filter(isPending)
  if (pending.length === 0 && record.setAside === null) return null
  return { record: { ...record, confirmed: null }, entries: pending }
}

/**
 * What one more row of a reading says of an object that is to be written anew: it waits for the last.
 * @param isMore whether that reading had a row of it before; what was confirmed before the reading counts no more
 */
export const gathered = ({ record, entries }: Kept, state: ObjectState, isMore: boolean): Kept => ({
  record: { ...record, confirmed: isMore ? join(confirmedOf(record), state) : state },
  entries,
})

/**
 * Rule 14: what is here becomes what the gateway says, and what differs in view is edited again by a new writer. What was
 * set aside stays so.
 * @param state null where the gateway has no such object
 */
export const rebased = ({ record, entries }: Kept, state: ObjectState | null, by: Editor): Kept | null => {
  const settled = { ...record, confirmed: state, isRebasing: false, rebasedAt: by.now }
  if (record.setAside !== null)
    return { record: { ...settled, local: join(record.local, state ?? emptyState) }, entries: [] }
  const anew = recoveredOn({ record: settled, entries: [] }, state ?? emptyState, record.local, by)
  if (state === null && anew.entries.length === 0) return null
  // Some were edited long ago: they keep the time since when they wait.
  const createdAt = entries.find(isPending)?.createdAt ?? by.now
  return { ...anew, entries: anew.entries.map((entry) => ({ ...entry, createdAt })) }
}

/**
 * Rule 9: its unconfirmed edits again as a new writer's, each on what it had seen of the gateway's when it was made: beside
 * what another copy of this machine wrote in its name, for a person to decide.
 */
export const renewed = (kept: Kept, by: Editor): Kept => {
  const { record, entries } = kept
  // What the gateway has of it is being read: then all of it is written anew.
  if (record.isRebasing) return kept
  const seen = entries
    .filter(({ isApplied }) => isApplied)
    .reduce((clock, { delta }) => joinClocks(clock, delta.clock), emptyClock)
  const pending = entries
    .filter(isPending)
    .map(({ delta, base, createdAt }) => ({ delta, base: joinClocks(base, seen), createdAt }))
  const basis = basisOf(kept)
  const actor = actorOf(by.deviceId, nextIncarnation(record, by.now))
  const edits = rewritten(nameOf(record), pending, basis.clock, actor).map((delta, index) => {
    const { base = emptyClock, createdAt = by.now } = pending[index] ?? {}
    return newEntry(delta, base, createdAt)
  })
  return writtenAnew(kept, basis, edits, by)
}

/** The gateway refused an edit for good: all of them wait for a person, and nobody else's do. */
export const setAside = (
  { record, entries }: Kept,
  refusal: { readonly code: ReasonCode; readonly detail: string | null },
  now: number,
): Kept => ({
  record: { ...record, setAside: { ...refusal, at: now } },
  entries: entries.filter(({ isApplied }) => isApplied),
})
