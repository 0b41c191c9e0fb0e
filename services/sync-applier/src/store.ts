import type { Change } from '@lenserfight/bus'
import { call, type Pool, withTransaction } from '@lenserfight/db'
import type { FormerKey, SignerRecord } from '@lenserfight/envelope'
import { CodedError, isReasonCode, type ReceiptItem } from '@lenserfight/schemas'
import type { Merged } from './decide/merge.ts'
import type { Opened } from './decide/opened.ts'
import type { Item } from './decode.ts'
import { createInTime } from './in-time.ts'
import type { Sequenced, Taken } from './sequence.ts'

/** What pushes came to. */
export interface Pushed {
  /** What each is told, in their order. */
  readonly outcomes: readonly ReceiptItem[]
  readonly notices: readonly Change[]
  /** Conflicts that these opened. */
  readonly conflicts: number
}

/** What came of keys that were taken: how many they were, and whom to tell. */
export interface Told {
  readonly taken: number
  readonly notices: readonly Change[]
}

/** The database as the sync-applier knows it: its own functions by name, and nothing else (role ltg_sync_applier). */
export interface ApplierStore {
  /** The devices on record under these kids. */
  readonly signers: (kids: readonly string[]) => Promise<ReadonlyMap<string, SignerRecord>>
  /** The keys that these devices had before, as far as something that they signed may still be under way. */
  readonly formerKeys: (kids: readonly string[]) => Promise<ReadonlyMap<string, readonly FormerKey[]>>
  /**
   * Opens pushes, has them merged, and keeps what comes of it, in one transaction. Applying again gives the same results again.
   * @param merge given what the database opened, and the pushes in the order of their index, from 1
   */
  readonly push: (
    items: readonly Item[],
    merge: (opened: Opened, items: readonly Item[]) => Merged,
  ) => Promise<readonly Pushed[]>
  /** Answers pulls; what each is told, in their order. */
  readonly pull: (items: readonly Item[]) => Promise<ReceiptItem[]>
  /** Takes up to so many keys of what the cloud wrote and tells their feeds, in one transaction. */
  readonly sequence: (limit: number, digests: (taken: Taken) => readonly Sequenced[]) => Promise<Told>
  /** Forgets a slice of one feed; whether one was due. */
  readonly compact: (limit: number) => Promise<{ readonly isDue: boolean; readonly forgotten: number }>
  /** Archives edits that are old enough; how many. */
  readonly archive: (limit: number) => Promise<number>
  /** Rejects where the database does not answer. */
  readonly probe: () => Promise<void>
}

interface SignerRow {
  readonly kid: string
  readonly signer: 'device' | 'session'
  readonly lenser_id: string
  readonly public_key: Buffer
}
interface FormerKeyRow {
  readonly kid: string
  readonly public_key: Buffer
  readonly good_until_ns: string | null
}
interface OutcomeRow {
  /** Null where the row is about the batch. */
  readonly idx: number | null
  readonly outcome: unknown
}

/** Reads what a function said of one item; its code is never passed on unread. */
const readOutcome = (value: unknown, { digest }: Item): ReceiptItem => {
  const { ok, code, detail, result, op_id, ...rest } = (value ?? {}) as Record<string, unknown>
  if (rest.digest !== digest) throw new CodedError('internal_error', 'an outcome is of another envelope')
  const operation = typeof op_id === 'string' ? { op_id } : {}
  if (ok === true && typeof result === 'object' && result !== null) {
    return { digest, ok, result: result as Record<string, unknown>, ...operation }
  }
  if (ok === false && isReasonCode(code)) {
    return { digest, ok, code, ...(typeof detail === 'string' ? { detail } : {}), ...operation }
  }
  throw new CodedError('internal_error', 'a function returned no outcome')
}

/** The outcome of each item, in their order. */
const readOutcomes = (rows: readonly OutcomeRow[], items: readonly Item[]): ReceiptItem[] => {
  if (rows.filter(({ idx }) => idx !== null).length !== items.length)
    throw new CodedError('internal_error', 'an outcome is missing')
  const byIndex = new Map(rows.map(({ idx, outcome }) => [idx, outcome]))
  return items.map((item, index) => readOutcome(byIndex.get(index + 1), item))
}

/** What is said of the batch beside its outcomes. */
const readBatch = (rows: readonly OutcomeRow[]): Pick<Pushed, 'notices' | 'conflicts'> => {
  const said = rows.filter(({ idx }) => idx === null).map(({ outcome }) => outcome as Change | { conflicts: number })
  return {
    notices: said.filter((each) => 'lenser' in each),
    conflicts: said.reduce((sum, each) => sum + ('conflicts' in each ? each.conflicts : 0), 0),
  }
}

/** Binds the store to a pool. Everything throws InfrastructureError where the database is gone. */
export const createStore = (pool: Pool): ApplierStore => {
  const inTime = createInTime()
  const signers = async (kids: readonly string[]): Promise<ReadonlyMap<string, SignerRecord>> => {
    const rows = await call<SignerRow>(pool, 'devices.fn_signers', [kids])
    const devices = rows.filter(({ signer }) => signer === 'device')
    return new Map(
      devices.map(({ kid, lenser_id, public_key }) => [kid, { kid, lenserId: lenser_id, publicKey: public_key }]),
    )
  }
  const formerKeys = async (kids: readonly string[]): Promise<ReadonlyMap<string, readonly FormerKey[]>> => {
    const rows = await call<FormerKeyRow>(pool, 'devices.fn_retired_keys', [kids])
    const keys = rows.map(({ kid, public_key, good_until_ns }) => ({
      kid,
      publicKey: public_key,
      goodUntil: good_until_ns === null ? null : BigInt(good_until_ns),
    }))
    return Map.groupBy(keys, ({ kid }) => kid)
  }
  const pushPart = (
    items: readonly Item[],
    merge: (opened: Opened, items: readonly Item[]) => Merged,
  ): Promise<Pushed> =>
    withTransaction(pool, async (connection) => {
      const texts = items.map(({ text }) => text)
      const [row] = await call<{ fn_sync_open: Opened }>(connection, 'devices.fn_sync_open', [texts])
      if (row === undefined) throw new CodedError('internal_error', 'nothing was opened')
      const merged = merge(row.fn_sync_open, items)
      const rows = await call<OutcomeRow>(connection, 'devices.fn_sync_push', [texts, merged])
      return { outcomes: readOutcomes(rows, items), ...readBatch(rows) }
    })
  const push = (items: readonly Item[], merge: (opened: Opened, items: readonly Item[]) => Merged) =>
    inTime(items, async (part) => [await pushPart(part, merge)])
  const pull = async (items: readonly Item[]): Promise<ReceiptItem[]> => [
    ...(await inTime(items, async (part) =>
      readOutcomes(await call<OutcomeRow>(pool, 'devices.fn_sync_pull', [part.map(({ text }) => text)]), part),
    )),
  ]
  const sequence = (limit: number, digests: (taken: Taken) => readonly Sequenced[]): Promise<Told> =>
    withTransaction(pool, async (connection) => {
      const [row] = await call<{ fn_sync_sequence_open: Taken }>(connection, 'devices.fn_sync_sequence_open', [limit])
      if (row === undefined) throw new CodedError('internal_error', 'nothing was opened')
      const opened = row.fn_sync_sequence_open
      if (opened.objects.length === 0) return { taken: opened.taken, notices: [] }
      const sequenced = { objects: digests(opened) }
      const rows = await call<{ notice: Change }>(connection, 'devices.fn_sync_sequence_commit', [sequenced])
      return { taken: opened.taken, notices: rows.map(({ notice }) => notice) }
    })
  const compact = async (limit: number) => {
    const [row] = await call<{ lenser_id: string | null; forgotten: number }>(pool, 'devices.fn_sync_compact', [limit])
    return { isDue: typeof row?.lenser_id === 'string', forgotten: row?.forgotten ?? 0 }
  }
  const archive = async (limit: number): Promise<number> => {
    const [row] = await call<{ fn_sync_archive: number }>(pool, 'devices.fn_sync_archive', [limit])
    return row?.fn_sync_archive ?? 0
  }
  const probe = async (): Promise<void> => {
    await signers([])
  }
  return { signers, formerKeys, push, pull, sequence, compact, archive, probe }
}
