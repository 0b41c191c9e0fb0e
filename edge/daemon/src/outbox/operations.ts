import type { KindName } from '@lenserfight/schemas'
import type { Store } from '../store.ts'
import type { OperationState, Outcome, Progress } from './decide.ts'

/** An operation that this machine owes the gateway, or what came of it. Times are milliseconds since 1970. */
export interface Operation extends Progress {
  readonly opId: string
  /** The device that it was made for. */
  readonly kid: string
  readonly kind: KindName
  /** The body as JSON; it is signed anew at each attempt. */
  readonly body: string
  readonly nextAt: number
  readonly createdAt: number
  readonly endedAt: number | null
  /** The newest refusal that was not final. */
  readonly lastCode: string | null
  /** Nobody waits for its result any more; it is sent until there is one all the same, since what was sent may take effect. */
  readonly isUnwanted: boolean
  readonly outcome: Outcome | null
}

export interface Attempt {
  readonly digest: string
  readonly opId: string
  readonly sentAt: number
  readonly isLatest: boolean
}

interface OperationRow {
  op_id: string
  kid: string
  kind: string
  body: string
  state: string
  attempts: number
  refusals: number
  next_at: number
  created_at: number
  ended_at: number | null
  last_code: string | null
  unwanted: number
  outcome: string | null
}

const fromRow = (row: OperationRow): Operation => ({
  opId: row.op_id,
  kid: row.kid,
  kind: row.kind as KindName,
  body: row.body,
  state: row.state as OperationState,
  attempts: row.attempts,
  refusals: row.refusals,
  nextAt: row.next_at,
  createdAt: row.created_at,
  endedAt: row.ended_at,
  lastCode: row.last_code,
  isUnwanted: row.unwanted === 1,
  outcome: row.outcome === null ? null : (JSON.parse(row.outcome) as Outcome),
})

const placeholders = (count: number): string => Array.from({ length: count }, () => '?').join(', ')

/** The rows of the outbox: what is read and written, without deciding anything. */
export interface Operations {
  readonly insert: (operation: Pick<Operation, 'opId' | 'kid' | 'kind' | 'body'>, now: number) => void
  readonly find: (opId: string) => Operation | undefined
  readonly findAttempt: (digest: string) => Attempt | undefined
  /**
   * Those of these kinds whose time has come, oldest first; before them a change of keys, which others may wait for, after
   * them those that nobody wants, and without attestations of runs whose tool log is on its way.
   */
  readonly due: (kinds: readonly KindName[], now: number, limit: number) => Operation[]
  readonly countOpen: () => number
  /** Open, and nobody wants them. */
  readonly countUnwanted: () => number
  /** Sent, and their time has not come yet. */
  readonly countInFlight: (now: number) => number
  readonly nextAt: (kinds: readonly KindName[]) => number | undefined
  readonly oldestOpen: () => number | undefined
  readonly markSent: (attempt: { opId: string; digest: string; now: number; nextAt: number }) => void
  readonly markRefused: (refusal: { opId: string; code: string; nextAt: number }) => void
  readonly finish: (end: { opId: string; state: 'done' | 'failed'; outcome: Outcome; now: number }) => void
  /** Makes all open ones due by then at the latest. Those in flight count as never answered for no fault of the gateway's. */
  readonly hasten: (by: number) => void
  /** Removes an open one that was never sent. */
  readonly removeUnsent: (opId: string) => boolean
  /** Removes one that has ended. */
  readonly removeEnded: (opId: string) => void
  /** Marks one that is open. */
  readonly markUnwanted: (opId: string) => void
  readonly open: () => Operation[]
  /** Forgets those that ended before then. */
  readonly prune: (before: number) => number
}

const isOpen = "state IN ('waiting', 'sent')"
/** A run's attestation ends its tool log, so it goes out once every entry before it is on record. */
const isHeldBack = `o.kind = 'attestation' AND EXISTS (
  SELECT 1 FROM operations t WHERE t.kind = 'tool_invocation' AND t.state IN ('waiting', 'sent')
   AND json_extract(t.body, '$.run_id') = json_extract(o.body, '$.run_id'))`

export const createOperations = (store: Store): Operations => ({
  insert: ({ opId, kid, kind, body }, now) => {
    store.run(
      `INSERT INTO operations (op_id, kid, kind, body, state, next_at, created_at) VALUES (?, ?, ?, ?, 'waiting', ?, ?)`,
      ...[opId, kid, kind, body, now, now],
    )
  },
  find: (opId) => {
    const row = store.get<OperationRow>('SELECT * FROM operations WHERE op_id = ?', opId)
    return row === undefined ? undefined : fromRow(row)
  },
  findAttempt: (digest) => {
    const row = store.get<{ op_id: string; sent_at: number; number: number; attempts: number }>(
      `SELECT a.op_id, a.sent_at, a.number, o.attempts FROM attempts a JOIN operations o USING (op_id) WHERE a.digest = ?`,
      digest,
    )
    return row && { digest, opId: row.op_id, sentAt: row.sent_at, isLatest: row.number === row.attempts }
  },
  due: (kinds, now, limit) =>
    store
      .all<OperationRow>(
        `SELECT * FROM operations o
          WHERE ${isOpen} AND next_at <= ? AND kind IN (${placeholders(kinds.length)}) AND NOT (${isHeldBack})
          ORDER BY kind <> 'rotate', unwanted, rowid LIMIT ?`,
        ...[now, ...kinds, limit],
      )
      .map(fromRow),
  countOpen: () => store.get<{ n: number }>(`SELECT count(*) AS n FROM operations WHERE ${isOpen}`)?.n ?? 0,
  countUnwanted: () =>
    store.get<{ n: number }>(`SELECT count(*) AS n FROM operations WHERE ${isOpen} AND unwanted = 1`)?.n ?? 0,
  countInFlight: (now) =>
    store.get<{ n: number }>(`SELECT count(*) AS n FROM operations WHERE state = 'sent' AND next_at > ?`, now)?.n ?? 0,
  nextAt: (kinds) =>
    store.get<{ at: number | null }>(
      `SELECT min(next_at) AS at FROM operations WHERE ${isOpen} AND kind IN (${placeholders(kinds.length)})`,
      ...kinds,
    )?.at ?? undefined,
  oldestOpen: () =>
    store.get<{ at: number | null }>(`SELECT min(created_at) AS at FROM operations WHERE ${isOpen}`)?.at ?? undefined,
  markSent: ({ opId, digest, now, nextAt }) => {
    store.run(
      `UPDATE operations SET state = 'sent', attempts = attempts + 1, next_at = ? WHERE op_id = ?`,
      ...[nextAt, opId],
    )
    store.run(
      `INSERT INTO attempts (digest, op_id, number, sent_at) SELECT ?, op_id, attempts, ? FROM operations WHERE op_id = ?`,
      ...[digest, now, opId],
    )
  },
  markRefused: ({ opId, code, nextAt }) => {
    store.run(
      `UPDATE operations SET state = 'waiting', refusals = refusals + 1, last_code = ?, next_at = ? WHERE op_id = ? AND ${isOpen}`,
      ...[code, nextAt, opId],
    )
  },
  finish: ({ opId, state, outcome, now }) => {
    store.run(
      `UPDATE operations SET state = ?, outcome = ?, ended_at = ? WHERE op_id = ? AND state <> 'done'`,
      ...[state, JSON.stringify(outcome), now, opId],
    )
    // A rejection may still be outranked by a result of an earlier attempt; a result by nothing.
    if (state === 'done') store.run('DELETE FROM attempts WHERE op_id = ?', opId)
  },
  hasten: (by) => {
    store.run(`UPDATE operations SET state = 'waiting', next_at = min(next_at, ?) WHERE ${isOpen}`, by)
  },
  removeUnsent: (opId) =>
    store.run(`DELETE FROM operations WHERE op_id = ? AND attempts = 0 AND ${isOpen}`, opId) === 1,
  removeEnded: (opId) => {
    store.run(`DELETE FROM operations WHERE op_id = ? AND NOT (${isOpen})`, opId)
  },
  markUnwanted: (opId) => {
    store.run(`UPDATE operations SET unwanted = 1 WHERE op_id = ? AND ${isOpen}`, opId)
  },
  open: () => store.all<OperationRow>(`SELECT * FROM operations WHERE ${isOpen} ORDER BY rowid`).map(fromRow),
  prune: (before) => store.run(`DELETE FROM operations WHERE state IN ('done', 'failed') AND ended_at < ?`, before),
})
