import { checkPath, classRefusal, isReasonCode, lifePath, type ReasonCode, type SyncEntry } from '@lenserfight/schemas'
import { admit, apply, type Delta, deltaOf, digestOf, isTooLarge, linkOf, type ObjectState } from '@lenserfight/sync'
import type { Opened, OpenedEntry, OpenedObject } from './opened.ts'

/** What became of one entry. */
export type Said =
  | { readonly status: 'applied'; readonly link: string }
  | { readonly status: 'duplicate' }
  | { readonly code: string; readonly detail?: string }

/** What is to be kept, as `devices.fn_sync_push` takes it; an object is named by one of the entries that were merged into it. */
export interface Merged {
  readonly items: readonly { readonly idx: number; readonly entries: readonly Said[] }[]
  readonly objects: readonly {
    readonly idx: number
    readonly entry: number
    readonly state: ObjectState
    readonly digest: string
  }[]
}

/** An object while a batch is merged into it. */
interface Workpiece {
  readonly name: Pick<OpenedObject, 'class' | 'object'>
  state: ObjectState
  /** Links of each actor's newest edit, and of those merged here by `<actor> <number>`. */
  readonly links: Map<string, string>
  /** The first entry that was merged into it. */
  by?: { readonly idx: number; readonly entry: number }
}

const refused = (code: ReasonCode, detail?: string): Said => ({ code, ...(detail === undefined ? {} : { detail }) })

/** What an entry's paths lack of the form that its class requires; null where nothing. */
const checkForm = ({ class: className, paths }: Delta): string | null => {
  // Each edit says whether the object exists (rule 5).
  if (!Object.hasOwn(paths, lifePath)) return `${lifePath} is missing`
  for (const [path, value] of Object.entries(paths)) {
    const problem = checkPath(className, path, value)
    if (problem !== null) return problem
  }
  return null
}

/** Merges one entry into its object, or says why not: its class, form, then rule 7, then the size of what would come of it. */
const mergeEntry = (piece: Workpiece, delta: Delta, linkAt: string | undefined): Said => {
  // The database has asked the same of its own table (law 5).
  const refusal = classRefusal(delta.class)
  if (refusal !== null) return refused(refusal)
  const problem = checkForm(delta)
  if (problem !== null) return refused('invalid_object', problem)
  const { actor, clock } = delta
  const link = linkOf(delta)
  const place = `${actor} ${clock[actor]}`
  const there = piece.links.get(place) ?? linkAt
  const known = { ...piece.state, link: piece.links.get(actor) ?? null }
  const admission = admit(there === undefined ? known : { ...known, linkAt: there }, delta, link)
  if (admission === 'duplicate') return { status: 'duplicate' }
  if (admission !== 'admitted') return refused(admission)
  const merged = apply(piece.state, delta)
  if (isTooLarge(delta.class, merged)) return refused('object_too_large')
  piece.state = merged
  piece.links.set(actor, link)
  piece.links.set(place, link)
  return { status: 'applied', link }
}

/** What the database refused already; its code is never passed on unread. */
const refusedBefore = ({ code }: { code: string }): Said => {
  if (!isReasonCode(code)) throw new TypeError('an entry was refused without a reason')
  return { code }
}

/**
 * Merges a batch of pushes into the objects that they are about, entry by entry in the order in which they were edited; one that
 * is refused holds up no other. Pure.
 * @param entriesOf the entries of the push with that index, as they were signed
 */
export const decideMerge = (opened: Opened, entriesOf: (idx: number) => readonly SyncEntry[]): Merged => {
  const pieces = opened.objects.map(
    ({ class: className, object, state, links }): Workpiece => ({
      name: { class: className, object },
      state,
      links: new Map(Object.entries(links)),
    }),
  )
  const decide = (said: OpenedEntry, entry: SyncEntry, deviceId: string, by: { idx: number; entry: number }): Said => {
    if ('code' in said) return refusedBefore(said)
    const piece = pieces[said.at]
    if (piece === undefined || piece.name.class !== entry.class || piece.name.object !== entry.object) {
      throw new TypeError('an entry was opened with another object')
    }
    const outcome = mergeEntry(piece, deltaOf(entry, deviceId), said.link_at)
    if ('status' in outcome && outcome.status === 'applied') piece.by ??= by
    return outcome
  }
  const items = opened.items.map(({ idx, device_id, entries }) => {
    const signed = entriesOf(idx)
    if (signed.length !== entries.length) throw new TypeError('a push was opened with other entries')
    return {
      idx,
      entries: entries.map((said, entry) => decide(said, signed[entry] as SyncEntry, device_id, { idx, entry })),
    }
  })
  const objects = pieces.flatMap(({ state, by }) =>
    by === undefined ? [] : [{ ...by, state, digest: digestOf(state) }],
  )
  return { items, objects }
}
