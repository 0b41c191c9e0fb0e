import { canonicalize } from '@lenserfight/envelope'
import { limits, pullableClasses, type ReasonCode } from '@lenserfight/schemas'
import { type Clock, type Delta, digestOf, type ObjectName, type ObjectState, read } from '@lenserfight/sync'
import type { Row, Store } from '../store.ts'
import type { Kept, ObjectRecord, OutboxEntry } from './types.ts'

interface ObjectRow {
  class: string
  object: string
  local: string
  confirmed: string | null
  incarnation: number
  link: string | null
  rebase: number
  rebased_at: number | null
  not_before: number
  refused_code: string | null
  refused_detail: string | null
  refused_at: number | null
  changed_at: number
}
interface EntryRow {
  id: number
  delta: string
  base: string
  bytes: number
  op_id: string | null
  applied: number
  created_at: number
}

const recordOf = (row: ObjectRow): ObjectRecord => ({
  class: row.class,
  object: row.object,
  local: JSON.parse(row.local) as ObjectState,
  confirmed: row.confirmed === null ? null : (JSON.parse(row.confirmed) as ObjectState),
  incarnation: row.incarnation,
  link: row.link,
  isRebasing: row.rebase === 1,
  rebasedAt: row.rebased_at,
  notBefore: row.not_before,
  setAside:
    row.refused_code === null || row.refused_at === null
      ? null
      : { code: row.refused_code as ReasonCode, detail: row.refused_detail, at: row.refused_at },
  changedAt: row.changed_at,
})
const entryOf = (row: EntryRow): OutboxEntry => ({
  id: row.id,
  delta: JSON.parse(row.delta) as Delta,
  base: JSON.parse(row.base) as Clock,
  bytes: row.bytes,
  opId: row.op_id,
  isApplied: row.applied === 1,
  createdAt: row.created_at,
})

/** How far this machine's view of a class goes. */
export interface Cursor {
  readonly class: string
  readonly after: number
  /** It is read anew from the start; what a whole reading does not have is no more. */
  readonly isSnapshot: boolean
  /** When it was last read anew because it differed, milliseconds since 1970. */
  readonly resyncedAt: number | null
  readonly hasDiverged: boolean
}

/** What an object is listed as. Times are milliseconds since 1970. */
export interface Listed extends ObjectName {
  readonly alive: boolean
  readonly pending: number
  readonly set_aside: string | null
  readonly conflicts: number
  readonly beside: number
  readonly changed_at: number
}

/** What the outbox of edits holds. */
export interface PendingEdits {
  readonly count: number
  readonly bytes: number
  /** Milliseconds since 1970. */
  readonly oldestAt: number | null
}

interface Facts {
  /** The database's epoch, as the gateway last said it. */
  readonly epoch: number
  /** In whose name the edits were made. */
  readonly device_id: string
  /** Whose the objects are: the gateway and the Lenser. */
  readonly account: string
  readonly last_push_at: number
  readonly last_pull_at: number
  readonly last_code: ReasonCode | null
}

/** What is to wait for longer was kept by a clock that was ahead and is put right: it waits no more, milliseconds. */
export const longestWaitMs = 3_600_000

const coordinatedList = (classes: readonly string[]): string => JSON.stringify(classes)

/** The objects, their outbox and the cursors on this machine's disk: what is read and written, without deciding anything. */
export const createSyncTables = (store: Store) => {
  const find = ({ class: className, object }: ObjectName): Kept | undefined => {
    const row = store.get<ObjectRow>('SELECT * FROM objects WHERE class = ? AND object = ?', className, object)
    if (row === undefined) return undefined
    const entries = store.all<EntryRow>(
      'SELECT * FROM sync_outbox WHERE class = ? AND object = ? ORDER BY id',
      className,
      object,
    )
    return { record: recordOf(row), entries: entries.map(entryOf) }
  }

  const putRecord = (record: ObjectRecord): void => {
    const { class: className, object, local, confirmed, setAside } = record
    const { alive, conflicts, beside } = read(className, local)
    store.run(
      `INSERT INTO objects (class, object, local, confirmed, digest, alive, conflicts, beside, incarnation, link, rebase,
                            rebased_at, not_before, refused_code, refused_detail, refused_at, changed_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (class, object) DO UPDATE SET local = excluded.local, confirmed = excluded.confirmed,
         digest = excluded.digest, alive = excluded.alive, conflicts = excluded.conflicts,
         beside = excluded.beside, incarnation = excluded.incarnation, link = excluded.link, rebase = excluded.rebase,
         rebased_at = excluded.rebased_at, not_before = excluded.not_before, refused_code = excluded.refused_code,
         refused_detail = excluded.refused_detail, refused_at = excluded.refused_at, changed_at = excluded.changed_at`,
      ...[
        className,
        object,
        canonicalize(local),
        confirmed && canonicalize(confirmed),
        confirmed && digestOf(confirmed),
      ],
      ...[alive ? 1 : 0, conflicts.length, Object.keys(beside).length],
      ...[record.incarnation, record.link, record.isRebasing ? 1 : 0],
      ...[record.rebasedAt, record.notBefore, setAside?.code ?? null, setAside?.detail ?? null, setAside?.at ?? null],
      record.changedAt,
    )
  }
  const putEntry = ({ delta, base, bytes, opId, isApplied, createdAt }: OutboxEntry): void => {
    if (opId !== null) throw new TypeError('a new edit is in no push')
    store.run(
      `INSERT INTO sync_outbox (class, object, delta, base, bytes, applied, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      ...[delta.class, delta.object, canonicalize(delta), canonicalize(base), bytes, isApplied ? 1 : 0, createdAt],
    )
  }
  /** Keeps an object as a transition left it; within a transaction. */
  const save = (before: Kept | undefined, after: Kept | null): void => {
    const left = new Set(after?.entries.map(({ id }) => id))
    for (const { id } of before?.entries ?? []) {
      if (id !== undefined && !left.has(id)) store.run('DELETE FROM sync_outbox WHERE id = ?', id)
    }
    if (after === null) {
      const name = before?.record
      if (name !== undefined) store.run('DELETE FROM objects WHERE class = ? AND object = ?', name.class, name.object)
      return
    }
    if (after.record !== before?.record) putRecord(after.record)
    for (const entry of after.entries) {
      if (entry.id === undefined) putEntry(entry)
      else if (!before?.entries.includes(entry))
        store.run(
          'UPDATE sync_outbox SET applied = ?, op_id = NULL, place = NULL WHERE id = ?',
          ...[entry.isApplied ? 1 : 0, entry.id],
        )
    }
  }

  const factOf = <K extends keyof Facts>(key: K): Facts[K] | undefined => {
    const row = store.get<{ value: string }>('SELECT value FROM sync_facts WHERE key = ?', key)
    return row && (JSON.parse(row.value) as Facts[K])
  }
  const setFact = <K extends keyof Facts>(key: K, value: Facts[K]): void => {
    store.run(
      'INSERT INTO sync_facts (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      ...[key, JSON.stringify(value)],
    )
  }

  return {
    transaction: store.transaction,
    find,
    save,
    fact: factOf,
    setFact,

    /** Objects by class and name after one, living ones or all. */
    list: (which: { class?: string | undefined; deleted: boolean; after: ObjectName }, limit: number): Listed[] =>
      store
        .all<Row>(
          `SELECT o.class, o.object, o.alive, o.refused_code, o.conflicts, o.beside, o.changed_at,
                  (SELECT count(*) FROM sync_outbox e
                    WHERE e.class = o.class AND e.object = o.object AND e.applied = 0) AS pending
             FROM objects o
            WHERE (o.class, o.object) > (?, ?) AND (?3 IS NULL OR o.class = ?3) AND (o.alive = 1 OR ?4 = 1)
            ORDER BY o.class, o.object LIMIT ?5`,
          ...[which.after.class, which.after.object, which.class ?? null, which.deleted ? 1 : 0, limit],
        )
        .map((row) => ({
          ...{ class: String(row.class), object: String(row.object), alive: row.alive === 1 },
          ...{ pending: Number(row.pending), set_aside: row.refused_code as string | null },
          ...{ conflicts: Number(row.conflicts), beside: Number(row.beside), changed_at: Number(row.changed_at) },
        })),
    setAside: () =>
      store.all<{ class: string; object: string; code: string; detail: string | null; at: number }>(
        `SELECT class, object, refused_code AS code, refused_detail AS detail, refused_at AS at FROM objects
          WHERE refused_code IS NOT NULL ORDER BY class, object LIMIT 1000`,
      ),
    countSetAside: (): number =>
      store.get<{ n: number }>('SELECT count(*) AS n FROM objects WHERE refused_code IS NOT NULL')?.n ?? 0,
    countConflicts: (): number =>
      store.get<{ n: number }>('SELECT coalesce(sum(conflicts), 0) AS n FROM objects WHERE conflicts > 0')?.n ?? 0,

    /** Paths that another machine wrote at the same time as the one that is read, and nobody since. */
    countBeside: (): number =>
      store.get<{ n: number }>('SELECT coalesce(sum(beside), 0) AS n FROM objects WHERE beside > 0')?.n ?? 0,

    pending: (): PendingEdits => {
      const row = store.get<{ n: number; bytes: number; at: number | null }>(
        `SELECT count(*) AS n, coalesce(sum(bytes), 0) AS bytes, min(created_at) AS at FROM sync_outbox WHERE applied = 0`,
      )
      return { count: row?.n ?? 0, bytes: row?.bytes ?? 0, oldestAt: row?.at ?? null }
    },
    /** Edits that have no result yet, and merged ones that the feed has not brought back. */
    countKept: (): number => store.get<{ n: number }>('SELECT count(*) AS n FROM sync_outbox')?.n ?? 0,
    pendingIn: (className: string): number =>
      store.get<{ n: number }>('SELECT count(*) AS n FROM sync_outbox WHERE applied = 0 AND class = ?', className)?.n ??
      0,
    countUnderWay: (): number =>
      store.get<{ n: number }>('SELECT count(*) AS n FROM sync_outbox WHERE op_id IS NOT NULL')?.n ?? 0,
    /** Edits that may be pushed now, oldest first, but for those of these classes. */
    sendable: (now: number, without: readonly string[], limit: number = limits.entriesPerPush): OutboxEntry[] =>
      store
        .all<EntryRow>(
          `SELECT e.* FROM sync_outbox e JOIN objects o USING (class, object)
            WHERE e.applied = 0 AND e.op_id IS NULL AND o.rebase = 0 AND o.not_before NOT BETWEEN ?1 + 1 AND ?1 + ?4
              AND e.class NOT IN (SELECT value FROM json_each(?2))
            ORDER BY e.id LIMIT ?3`,
          ...[now, coordinatedList(without), limit, longestWaitMs],
        )
        .map(entryOf),
    markUnderWay: (entries: readonly OutboxEntry[], opId: string): void => {
      for (const [place, { id }] of entries.entries())
        store.run('UPDATE sync_outbox SET op_id = ?, place = ? WHERE id = ?', opId, place, id ?? null)
    },
    /** The pushes that carry edits. */
    underWay: (): string[] =>
      store
        .all<{ op_id: string }>('SELECT DISTINCT op_id FROM sync_outbox WHERE op_id IS NOT NULL')
        .map(({ op_id }) => op_id),
    /** The edits that a push carries, with their places in it. */
    carriedBy: (opId: string): (ObjectName & { id: number; place: number })[] =>
      store.all('SELECT id, class, object, place FROM sync_outbox WHERE op_id = ? ORDER BY place', opId),
    putBack: (opId: string): void => {
      store.run('UPDATE sync_outbox SET op_id = NULL, place = NULL WHERE op_id = ?', opId)
    },
    /** Every object that was edited here, or is kept for a person. */
    editedObjects: (): ObjectName[] =>
      store.all('SELECT class, object FROM objects WHERE incarnation > 0 ORDER BY class, object'),

    /** Nothing of any object, edit or cursor is left. */
    forgetAll: (): void => {
      for (const table of ['sync_outbox', 'objects', 'sync_cursors', 'sync_facts']) store.run(`DELETE FROM ${table}`)
    },

    cursors: (): Cursor[] => {
      const rows = store.all<Row>('SELECT * FROM sync_cursors')
      const known = new Map(rows.map((row) => [String(row.class), row]))
      return pullableClasses.map((name) => {
        const row = known.get(name)
        return {
          class: name,
          after: Number(row?.after ?? 0),
          isSnapshot: row?.snapshot === 1,
          resyncedAt: row?.resynced_at == null ? null : Number(row.resynced_at),
          hasDiverged: row?.diverged === 1,
        }
      })
    },
    putCursor: (cursor: Cursor): void => {
      store.run(
        `INSERT INTO sync_cursors (class, after, snapshot, resynced_at, diverged) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (class) DO UPDATE SET after = excluded.after, snapshot = excluded.snapshot,
           resynced_at = excluded.resynced_at, diverged = excluded.diverged`,
        ...[cursor.class, cursor.after, cursor.isSnapshot ? 1 : 0, cursor.resyncedAt, cursor.hasDiverged ? 1 : 0],
      )
    },
    /** A class is read anew: none of its objects was in that reading yet. */
    forgetSeen: (className: string): void => {
      store.run('UPDATE objects SET seen = 0 WHERE class = ? AND seen = 1', className)
    },
    markSeen: ({ class: className, object }: ObjectName): void => {
      store.run('UPDATE objects SET seen = 1 WHERE class = ? AND object = ?', className, object)
    },
    markUnseen: ({ class: className, object }: ObjectName): void => {
      store.run('UPDATE objects SET seen = 0 WHERE class = ? AND object = ?', className, object)
    },
    isSeen: ({ class: className, object }: ObjectName): boolean =>
      store.get('SELECT 1 FROM objects WHERE class = ? AND object = ? AND seen = 1', className, object) !== undefined,
    /** What a whole reading of a class did not have and this machine believed the gateway to have. */
    unseen: (className: string): ObjectName[] =>
      store.all(
        'SELECT class, object FROM objects WHERE class = ? AND seen = 0 AND rebase = 0 AND confirmed IS NOT NULL',
        className,
      ),
    /** What is to be written anew on what a whole reading of its class says. */
    rebasing: (className: string): ObjectName[] =>
      store.all(
        'SELECT class, object FROM objects WHERE class = ? AND rebase = 1 ORDER BY seen DESC, object',
        className,
      ),
    /** Everything here is to be written on what the gateway says anew (rule 14). */
    rebaseAll: (): void => {
      store.run('UPDATE objects SET rebase = 1 WHERE rebase = 0')
    },
    confirmedDigests: (className: string): { object: string; digest: string }[] =>
      store.all('SELECT object, digest FROM objects WHERE class = ? AND digest IS NOT NULL', className),
    isCoordinatedPending: (classes: readonly string[]): boolean =>
      store.get(
        'SELECT 1 FROM sync_outbox WHERE applied = 0 AND class IN (SELECT value FROM json_each(?)) LIMIT 1',
        coordinatedList(classes),
      ) !== undefined,
  }
}

export type SyncTables = ReturnType<typeof createSyncTables>
