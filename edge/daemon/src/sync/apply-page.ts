import { isDeepStrictEqual } from 'node:util'
import { limits } from '@lenserfight/schemas'
import { checksumOf, digestOf } from '@lenserfight/sync'
import type { FeedPage, FeedPart, FeedRow } from './pull-result.ts'
import type { Cursor, SyncTables } from './tables.ts'
import { dropped, gathered, merged, rebased } from './transitions.ts'
import type { Editor } from './types.ts'

const resyncMs = limits.resyncSeconds * 1000
type Rows = Exclude<FeedPart, { code: unknown }>

/** What a page came to. */
export interface Applied {
  readonly rows: number
  /** Objects that it changed or named, `<class>/<object>`. */
  readonly objects: readonly string[]
  /** There is more to ask for at once. */
  readonly more: boolean
  /** Something is read anew from now on: what was asked before says nothing of that reading. */
  readonly isAnew: boolean
  /** It is of a former epoch, and nothing of it was taken. */
  readonly isFormer: boolean
  /** Classes that differ from the gateway's although they were read anew. */
  readonly differing: readonly string[]
}

export interface PageContext {
  readonly tables: SyncTables
  readonly by: Editor
  /** Up to where each class was found equal to the gateway's by this process. */
  readonly compared: Map<string, number>
}

/** A class is read from its start again; what it then does not have is no more. */
export const beginSnapshot = (tables: SyncTables, cursor: Cursor): Cursor => {
  const next = { ...cursor, after: 0, isSnapshot: true }
  tables.forgetSeen(cursor.class)
  tables.putCursor(next)
  return next
}

const applyRow = ({ tables, by }: PageContext, cursor: Cursor, row: FeedRow): void => {
  const name = { class: cursor.class, object: row.object }
  const before = tables.find(name)
  if (row.op === 'purge') {
    // What is to be written anew is judged when the whole class was read.
    if (before?.record.isRebasing) tables.markUnseen(name)
    else if (before !== undefined) tables.save(before, dropped(before))
    return
  }
  const known = before?.record.confirmed ?? null
  // An older row of it may come first, which has not seen what the gateway has by now.
  if (before?.record.isRebasing) tables.save(before, gathered(before, row.state, tables.isSeen(name)))
  else if (known === null || digestOf(known) !== row.digest)
    tables.save(before, merged(before, name, row.state, by.now))
  if (cursor.isSnapshot) tables.markSeen(name)
}

/** The class was read whole: only now is it known what the gateway has of an object, and what it has no more. */
const endSnapshot = ({ tables, by }: PageContext, cursor: Cursor): void => {
  for (const name of tables.rebasing(cursor.class)) {
    const before = tables.find(name)
    if (before === undefined) continue
    tables.save(before, rebased(before, tables.isSeen(name) ? before.record.confirmed : null, by))
  }
  for (const name of tables.unseen(cursor.class)) {
    const before = tables.find(name)
    if (before !== undefined) tables.save(before, dropped(before))
  }
}

/** A class that was read whole and has nothing to be sent is held against the gateway's checksum. */
const compare = (context: PageContext, cursor: Cursor, { checksum }: Rows): Cursor => {
  const { tables, by, compared } = context
  const isKnown = compared.get(cursor.class) === cursor.after
  if (checksum === undefined || isKnown || tables.pendingIn(cursor.class) > 0) return cursor
  const own = checksumOf(tables.confirmedDigests(cursor.class))
  if (own.count === checksum.count && own.xor === checksum.xor) {
    compared.set(cursor.class, cursor.after)
    return { ...cursor, hasDiverged: false }
  }
  compared.delete(cursor.class)
  const { resyncedAt } = cursor
  if (resyncedAt !== null && Math.abs(by.now - resyncedAt) < resyncMs) return { ...cursor, hasDiverged: true }
  return beginSnapshot(tables, { ...cursor, resyncedAt: by.now })
}

interface AppliedPart {
  /** It is read anew from now on. */
  readonly isAnew: boolean
  /** The cursor moved. */
  readonly isFurther: boolean
  readonly objects: readonly string[]
}
const nothing: AppliedPart = { isAnew: false, isFurther: false, objects: [] }

const applyRows = (context: PageContext, cursor: Cursor, part: Rows): AppliedPart => {
  for (const row of part.rows) applyRow(context, cursor, row)
  const isWhole = !part.more
  if (cursor.isSnapshot && isWhole) endSnapshot(context, cursor)
  const read = { ...cursor, after: part.upto, isSnapshot: cursor.isSnapshot && part.more }
  const next = isWhole ? compare(context, read, part) : read
  // Most answers bring nothing, and nothing is written for them.
  if (!isDeepStrictEqual(next, cursor)) context.tables.putCursor(next)
  return {
    isAnew: next.isSnapshot !== read.isSnapshot,
    isFurther: part.upto > part.after,
    objects: part.rows.map(({ object }) => `${cursor.class}/${object}`),
  }
}

const applyPart = (context: PageContext, cursor: Cursor, part: FeedPart): AppliedPart => {
  if ('code' in part) {
    const isLost = part.code === 'resync_required' || part.code === 'cursor_ahead'
    if (!isLost || cursor.after === 0) return nothing
    beginSnapshot(context.tables, cursor)
    return { ...nothing, isAnew: true }
  }
  // An answer to a request that another has overtaken.
  return part.after === cursor.after ? applyRows(context, cursor, part) : nothing
}

/** A later epoch: the database was restored, and everything here is written on what it has by now (rule 14). */
const beginEpoch = ({ tables, compared }: PageContext, epoch: number): void => {
  tables.setFact('epoch', epoch)
  tables.rebaseAll()
  for (const cursor of tables.cursors()) beginSnapshot(tables, { ...cursor, hasDiverged: false })
  compared.clear()
}

/**
 * Stores a page of the feed: rows and cursors in one transaction, so that no row can be skipped and none counts twice.
 * @throws CodedError `state_unwritable`
 */
export const applyPage = (context: PageContext, page: FeedPage): Applied => {
  const { tables } = context
  return tables.transaction(() => {
    const known = tables.fact('epoch')
    if (known === undefined) tables.setFact('epoch', page.epoch)
    else if (known > page.epoch)
      return { rows: 0, objects: [], more: false, isAnew: false, isFormer: true, differing: [] }
    else if (known < page.epoch) {
      beginEpoch(context, page.epoch)
      return { rows: 0, objects: [], more: true, isAnew: true, isFormer: false, differing: [] }
    }
    const named = tables
      .cursors()
      .map((cursor) => ({ cursor, part: page.classes[cursor.class] }))
      .filter((each): each is { cursor: Cursor; part: FeedPart } => each.part !== undefined)
    const applied = named.map(({ cursor, part }) => applyPart(context, cursor, part))
    const rows = applied.flatMap(({ objects }) => objects)
    const diverged = tables.cursors().filter(({ hasDiverged }) => hasDiverged)
    return {
      rows: rows.length,
      objects: [...new Set(rows)],
      // A page that moves no cursor is the last, whatever it says of itself.
      more: applied.some(({ isAnew, isFurther }) => isAnew || (page.more && isFurther)),
      isAnew: applied.some(({ isAnew }) => isAnew),
      isFormer: false,
      differing: diverged.map((cursor) => cursor.class),
    }
  })
}
