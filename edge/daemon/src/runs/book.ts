import { CodedError, limits } from '@lenserfight/schemas'
import type { Store } from '../store.ts'

/** What a permit says for as long as its run lasts; null is none. */
export interface Permitted {
  readonly run_id: string
  readonly version_id: string | null
  readonly lens_hash: string | null
  readonly workflow_id: string | null
  readonly workflow_hash: string | null
  readonly runner_id: string | null
  readonly contender_id: string | null
  /** Whether its runner was bound to this device; null where it names none, or where that is not known. */
  readonly runner_bound: boolean | null
}

export interface BookedRun {
  readonly permit: Permitted
  /** The gateway's clock less ours when the run was permitted, milliseconds. */
  readonly clockOffsetMs: number
  /** Entries of its tool log. */
  readonly tools: number
  readonly isEnded: boolean
  /** It awaits a person, or was let go on by one, and has not begun. */
  readonly isAwaiting: boolean
  /** It was taken back before it began. */
  readonly isWithdrawn: boolean
}

/** A clock that is off by no more than this is off by no more than can be measured, milliseconds. */
const sameClockMs = 1_000
/** A run that was permitted so long ago is forgotten. */
const keptMs = 90 * 24 * 3600 * 1000

const members = [
  'version_id',
  'lens_hash',
  'workflow_id',
  'workflow_hash',
  'runner_id',
  'contender_id',
] as const satisfies readonly (keyof Permitted)[]
/** Those that an attestation names too. */
const attested = ['version_id', 'lens_hash', 'workflow_hash', 'runner_id', 'contender_id'] as const

/** Reads a permit. */
export const readPermitted = (result: Readonly<Record<string, unknown>>): Permitted => {
  const text = (value: unknown): string | null => (typeof value === 'string' ? value : null)
  const named = Object.fromEntries(members.map((name) => [name, text(result[name])]))
  const runner_bound = typeof result.runner_bound === 'boolean' ? result.runner_bound : null
  return { run_id: String(result.run_id), ...named, runner_bound } as unknown as Permitted
}

const shifted = (time: unknown, offsetMs: number): unknown =>
  typeof time === 'number' && Math.abs(offsetMs) > sameClockMs ? Math.round(time + offsetMs) : time

/**
 * The runs that this device was permitted, kept on the disk: what each is pinned to, and how long its tool log is. A daemon
 * that was killed goes on counting where it was. Calls throw CodedError `state_unwritable`.
 */
export interface RunBook {
  readonly add: (permit: Permitted, clockOffsetMs: number, isAwaiting?: boolean) => void
  readonly find: (runId: string) => BookedRun | undefined
  /** Those that await a person; with them what the gateway said of one when this machine had no time left to write it here. */
  readonly awaiting: () => string[]
  /** It begins, or never will. */
  readonly settle: (runId: string) => void
  /**
   * Takes back a run that awaits a person, or was let go on by one and has not begun; or does neither.
   * @param keep keeps the message that says so
   * @throws CodedError `unknown_run`, `run_withdrawn`, `approval_not_pending`, what `keep` throws
   */
  readonly withdraw: <T>(runId: string, keep: () => T) => T
  /**
   * Counts one more entry of a run's tool log, and keeps it, or does neither.
   * @param keep keeps the entry of that number
   * @throws CodedError `unknown_run`, `run_ended`, `run_withdrawn`, what `keep` throws
   */
  readonly addTool: (runId: string, keep: (seq: number) => void) => number
  /**
   * Ends a run by its attestation, or does not. What the runner left out is filled in: what was permitted, and the length of
   * the tool log; claimed times are brought to the gateway's clock.
   * @param keep keeps the attestation
   * @throws CodedError `run_withdrawn`, what `keep` throws
   * @param clockOffsetMs what is known of it now; else what was when the run was permitted
   */
  readonly end: <T>(
    attestation: Readonly<Record<string, unknown>>,
    keep: (whole: Readonly<Record<string, unknown>>) => T,
    clockOffsetMs?: number,
  ) => T
}

interface Row {
  permit: string
  clock_offset_ms: number
  tools: number
  ended: number
  awaiting: number
  withdrawn: number
}

/** @param now milliseconds since 1970 */
export const createRunBook = (store: Store, now: () => number = Date.now): RunBook => {
  const find = (runId: string): BookedRun | undefined => {
    const row = store.get<Row & Record<string, never>>(
      'SELECT permit, clock_offset_ms, tools, ended, awaiting, withdrawn FROM runs WHERE run_id = ?',
      runId,
    )
    return (
      row && {
        permit: JSON.parse(row.permit) as Permitted,
        clockOffsetMs: row.clock_offset_ms,
        tools: row.tools,
        isEnded: row.ended === 1,
        isAwaiting: row.awaiting === 1,
        isWithdrawn: row.withdrawn === 1,
      }
    )
  }
  const add: RunBook['add'] = (permit, clockOffsetMs, isAwaiting = false) => {
    store.run('DELETE FROM runs WHERE created_at < ?', now() - keptMs)
    store.run(
      `INSERT INTO runs (run_id, permit, clock_offset_ms, created_at, awaiting) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      ...[permit.run_id, JSON.stringify(permit), Math.round(clockOffsetMs), now(), isAwaiting ? 1 : 0],
    )
  }
  /** A daemon that was killed right after it heard of a permit had not written it here. */
  const addUnwritten = (): void => {
    const rows = store.all<{ result: string }>(
      `SELECT json_extract(o.outcome, '$.result') AS result FROM operations o
        WHERE o.state = 'done' AND o.kind = 'run_start' AND o.ended_at > ?
          AND json_extract(o.outcome, '$.result.verdict') = 'require_approval'
          AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.run_id = json_extract(o.outcome, '$.result.run_id'))`,
      now() - limits.approvalMaxSeconds * 1000,
    )
    for (const { result } of rows) add(readPermitted(JSON.parse(result) as Record<string, unknown>), 0, true)
  }
  return {
    find,
    add,
    awaiting: () => {
      addUnwritten()
      return store
        .all<{ run_id: string }>('SELECT run_id FROM runs WHERE awaiting = 1 ORDER BY run_id')
        .map(({ run_id }) => run_id)
    },
    settle: (runId) => {
      store.run('UPDATE runs SET awaiting = 0 WHERE run_id = ?', runId)
    },
    withdraw: (runId, keep) =>
      store.transaction(() => {
        const run = find(runId)
        if (run === undefined) throw new CodedError('unknown_run')
        if (run.isWithdrawn) throw new CodedError('run_withdrawn')
        if (!run.isAwaiting) throw new CodedError('approval_not_pending')
        store.run('UPDATE runs SET awaiting = 0, withdrawn = 1 WHERE run_id = ?', runId)
        return keep()
      }),
    addTool: (runId, keep) =>
      store.transaction(() => {
        const run = find(runId)
        if (run === undefined) throw new CodedError('unknown_run')
        if (run.isEnded) throw new CodedError('run_ended')
        if (run.isWithdrawn) throw new CodedError('run_withdrawn')
        store.run('UPDATE runs SET tools = tools + 1 WHERE run_id = ?', runId)
        keep(run.tools + 1)
        return run.tools + 1
      }),
    end: (attestation, keep, clockOffsetMs) =>
      store.transaction(() => {
        const runId = String(attestation.run_id)
        const run = find(runId)
        if (run?.isWithdrawn) throw new CodedError('run_withdrawn')
        const offset = clockOffsetMs ?? run?.clockOffsetMs ?? 0
        store.run('UPDATE runs SET ended = 1, awaiting = 0 WHERE run_id = ?', runId)
        const { started_at, ended_at } = attestation
        return keep({
          ...(run && Object.fromEntries(attested.map((name) => [name, run.permit[name]]))),
          ...attestation,
          ...(run && { tool_invocations: run.tools }),
          ...(started_at === undefined ? {} : { started_at: shifted(started_at, offset) }),
          ...(ended_at === undefined ? {} : { ended_at: shifted(ended_at, offset) }),
        })
      }),
  }
}
