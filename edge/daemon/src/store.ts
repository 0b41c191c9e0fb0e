import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { ensurePrivateFile } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'

/** One statement a member; applied in order once, then never changed. */
const schemas = [
  `CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE operations (
     op_id TEXT PRIMARY KEY,
     kid TEXT NOT NULL,
     kind TEXT NOT NULL,
     body TEXT NOT NULL,
     state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'done', 'failed')),
     attempts INTEGER NOT NULL DEFAULT 0,
     refusals INTEGER NOT NULL DEFAULT 0,
     next_at INTEGER NOT NULL,
     created_at INTEGER NOT NULL,
     ended_at INTEGER,
     last_code TEXT,
     outcome TEXT,
     CHECK ((state IN ('done', 'failed')) = (outcome IS NOT NULL AND ended_at IS NOT NULL))
   ) STRICT;
   CREATE INDEX operations_open ON operations (next_at) WHERE state IN ('waiting', 'sent');
   CREATE INDEX operations_ended ON operations (ended_at) WHERE state IN ('done', 'failed');
   CREATE TABLE attempts (
     digest TEXT PRIMARY KEY,
     op_id TEXT NOT NULL REFERENCES operations ON DELETE CASCADE,
     number INTEGER NOT NULL,
     sent_at INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX attempts_of ON attempts (op_id);`,
  `CREATE TABLE counter (only INTEGER PRIMARY KEY CHECK (only = 1), reserved INTEGER NOT NULL) STRICT;
   INSERT INTO counter VALUES (1, 0);`,
  `CREATE TABLE runs (
     run_id TEXT PRIMARY KEY,
     permit TEXT NOT NULL,
     clock_offset_ms INTEGER NOT NULL,
     tools INTEGER NOT NULL DEFAULT 0,
     ended INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)),
     created_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX runs_old ON runs (created_at);
   CREATE INDEX operations_tools ON operations (json_extract(body, '$.run_id'))
     WHERE kind = 'tool_invocation' AND state IN ('waiting', 'sent');`,
  `ALTER TABLE runs ADD COLUMN awaiting INTEGER NOT NULL DEFAULT 0 CHECK (awaiting IN (0, 1));
   ALTER TABLE runs ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1));
   CREATE INDEX runs_awaiting ON runs (run_id) WHERE awaiting = 1;`,
  `ALTER TABLE operations ADD COLUMN unwanted INTEGER NOT NULL DEFAULT 0 CHECK (unwanted IN (0, 1));`,
  // SC-5, SB-4: what edges may not write has no place in this outbox, and what is local alone has none here at all.
  `CREATE TABLE objects (
     class TEXT NOT NULL CHECK (class IN (
       'xp_total', 'trust_evaluation', 'battle_result', 'policy', 'budget', 'kill_switch', 'dark_launch', 'ai_catalog',
       'agent_config', 'agent_team_graph', 'workflow_definition', 'lens_draft', 'runner_metadata', 'non_secret_pref',
       'automation_registry_entry')),
     object TEXT NOT NULL,
     local TEXT NOT NULL,
     confirmed TEXT,
     digest TEXT,
     alive INTEGER NOT NULL CHECK (alive IN (0, 1)),
     conflicts INTEGER NOT NULL,
     beside INTEGER NOT NULL DEFAULT 0,
     incarnation INTEGER NOT NULL,
     link TEXT,
     rebase INTEGER NOT NULL CHECK (rebase IN (0, 1)),
     rebased_at INTEGER,
     seen INTEGER NOT NULL DEFAULT 0 CHECK (seen IN (0, 1)),
     not_before INTEGER NOT NULL,
     refused_code TEXT,
     refused_detail TEXT,
     refused_at INTEGER,
     changed_at INTEGER NOT NULL,
     PRIMARY KEY (class, object),
     CHECK ((confirmed IS NULL) = (digest IS NULL)),
     CHECK ((refused_code IS NULL) = (refused_at IS NULL))
   ) STRICT;
   CREATE INDEX objects_refused ON objects (class, object) WHERE refused_code IS NOT NULL;
   CREATE INDEX objects_conflicting ON objects (class, object) WHERE conflicts > 0;
   CREATE INDEX objects_beside ON objects (class, object) WHERE beside > 0;
   CREATE TABLE sync_outbox (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     class TEXT NOT NULL CHECK (class IN (
       'agent_config', 'agent_team_graph', 'workflow_definition', 'lens_draft', 'runner_metadata', 'non_secret_pref',
       'automation_registry_entry')),
     object TEXT NOT NULL,
     delta TEXT NOT NULL,
     base TEXT NOT NULL,
     bytes INTEGER NOT NULL,
     op_id TEXT,
     place INTEGER,
     applied INTEGER NOT NULL DEFAULT 0 CHECK (applied IN (0, 1)),
     created_at INTEGER NOT NULL,
     FOREIGN KEY (class, object) REFERENCES objects,
     CHECK ((op_id IS NULL) = (place IS NULL)),
     CHECK (applied = 0 OR op_id IS NULL)
   ) STRICT;
   CREATE INDEX sync_outbox_of ON sync_outbox (class, object);
   CREATE INDEX sync_outbox_pending ON sync_outbox (class, created_at, bytes) WHERE applied = 0;
   CREATE INDEX sync_outbox_under_way ON sync_outbox (op_id, place) WHERE op_id IS NOT NULL;
   CREATE TABLE sync_cursors (
     class TEXT PRIMARY KEY,
     after INTEGER NOT NULL,
     snapshot INTEGER NOT NULL CHECK (snapshot IN (0, 1)),
     resynced_at INTEGER,
     diverged INTEGER NOT NULL CHECK (diverged IN (0, 1))
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE sync_facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;`,
] as const

/** A row as SQLite returns it. */
export type Row = Record<string, string | number | bigint | null | Uint8Array>

/** The daemon's durable state: one SQLite file in the state folder. Calls are synchronous and durable on return. */
export interface Store {
  readonly run: (sql: string, ...values: SQLInputValue[]) => number
  readonly get: <T = Row>(sql: string, ...values: SQLInputValue[]) => T | undefined
  readonly all: <T = Row>(sql: string, ...values: SQLInputValue[]) => T[]
  /** All of it, or, when the function throws, nothing. */
  readonly transaction: <T>(work: () => T) => T
  readonly close: () => void
}

const asStateError = (error: unknown): unknown => {
  if (error instanceof CodedError) return error
  const code = (error as { code?: unknown } | null)?.code
  return code === 'ERR_SQLITE_ERROR' ? new CodedError('state_unwritable', undefined, { cause: error }) : error
}

const guarded = <T>(work: () => T): T => {
  try {
    return work()
  } catch (error) {
    throw asStateError(error)
  }
}

const migrate = (db: DatabaseSync, file: string): void => {
  const { user_version: version } = db.prepare('PRAGMA user_version').get() as { user_version: number }
  if (version > schemas.length) throw new CodedError('state_unwritable', `${file} was written by a newer program`)
  for (const [index, schema] of schemas.entries()) {
    if (index < version) continue
    db.exec(`BEGIN IMMEDIATE; ${schema} PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}

/**
 * Opens the state file, making it (0600) where there is none. Several processes may have it open.
 * @throws CodedError `state_unwritable`, `insecure_permissions`
 */
export const openStore = (file: string): Store =>
  guarded(() => {
    ensurePrivateFile(file)
    const db = new DatabaseSync(file, { timeout: 5000 })
    // An entry must have reached the disk before anyone is told that it is kept.
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
    migrate(db, file)
    return wrap(db)
  })

const wrap = (db: DatabaseSync): Store => {
  const prepared = new Map<string, ReturnType<DatabaseSync['prepare']>>()
  const prepare = (sql: string) => {
    const known = prepared.get(sql) ?? db.prepare(sql)
    prepared.set(sql, known)
    return known
  }
  return {
    run: (sql, ...values) => guarded(() => Number(prepare(sql).run(...values).changes)),
    get: <T>(sql: string, ...values: SQLInputValue[]) => guarded(() => prepare(sql).get(...values) as T | undefined),
    all: <T>(sql: string, ...values: SQLInputValue[]) => guarded(() => prepare(sql).all(...values) as T[]),
    transaction: (work) =>
      guarded(() => {
        db.exec('BEGIN IMMEDIATE')
        try {
          const result = work()
          db.exec('COMMIT')
          return result
        } catch (error) {
          if (db.isTransaction) db.exec('ROLLBACK')
          throw error
        }
      }),
    close: () => {
      if (db.isOpen) db.close()
    },
  }
}
