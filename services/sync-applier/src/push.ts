import { readEnvelope } from '@lenserfight/envelope'
import type { ReceiptItem, SyncPushBody } from '@lenserfight/schemas'
import { decideMerge, type Merged } from './decide/merge.ts'
import type { Opened } from './decide/opened.ts'
import type { Item } from './decode.ts'
import type { ApplierStore, Pushed } from './store.ts'

/** What one call merges at most: its locks are held until all of it is, and each entry's object may be large. */
const most = { entries: 512, envelopes: 64 }

/** The body of a push that was checked. */
const bodyOf = ({ text }: Item): SyncPushBody => {
  const read = readEnvelope(text)
  if (!read.ok) throw new TypeError('a push that was checked does not parse')
  return read.envelope.body as unknown as SyncPushBody
}

/** Pushes in their order, as many together as one call merges. */
export const partsOf = (items: readonly Item[], sizeOf: (item: Item) => number): Item[][] => {
  const parts: Item[][] = []
  let room = 0
  for (const item of items) {
    const size = sizeOf(item)
    if (size > room || (parts.at(-1)?.length ?? 0) >= most.envelopes) {
      parts.push([])
      room = most.entries
    }
    parts.at(-1)?.push(item)
    room -= size
  }
  return parts
}

/** Merges a batch in what the database opened of it. */
const mergeOf =
  (bodies: ReadonlyMap<Item, SyncPushBody>) =>
  (opened: Opened, items: readonly Item[]): Merged =>
    decideMerge(opened, (idx) => bodies.get(items[idx - 1] as Item)?.entries ?? [])

/** Entries that were applied or had been before, and those that were refused. */
export const countEntries = (outcomes: readonly ReceiptItem[]): { applied: number; refused: number } => {
  const entries = outcomes.flatMap(({ result }) => (Array.isArray(result?.entries) ? result.entries : []))
  const applied = entries.filter((entry) => 'status' in entry).length
  return { applied, refused: entries.length - applied }
}

/** Applies pushes that were checked, part by part. */
export const applyPushes = async (store: Pick<ApplierStore, 'push'>, items: readonly Item[]): Promise<Pushed> => {
  const bodies = new Map(items.map((item) => [item, bodyOf(item)]))
  const pushed: Pushed[] = []
  for (const part of partsOf(items, (item) => bodies.get(item)?.entries.length ?? 0)) {
    pushed.push(...(await store.push(part, mergeOf(bodies))))
  }
  return {
    outcomes: pushed.flatMap(({ outcomes }) => outcomes),
    notices: pushed.flatMap(({ notices }) => notices),
    conflicts: pushed.reduce((sum, { conflicts }) => sum + conflicts, 0),
  }
}
