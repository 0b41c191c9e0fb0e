import type { Connection } from '@lenserfight/db'
import {
  actorOf,
  apply,
  type Change,
  conflictsOf,
  type Delta,
  digestOf,
  edit,
  emptyState,
  linkOf,
  type ObjectName,
  type ObjectState,
} from '@lenserfight/sync'
import { operation, resultOf, type Session, type World } from './_world.ts'

export interface ListedConflict {
  id: string
  class: string
  object: string
  path: string
  base: { value: unknown } | null
  sides: { actor: string; device_id: string | null; device_name: string | null; clock: object; value: unknown }[]
  edited: string[]
  sides_digest: string
  opened_at: number
  changed_at: number
  closed_at: number | null
  resolutions: { id: string; kind: string; at: number; by: string; winner: unknown }[]
  omitted?: true
}
export interface Resolution {
  resolution_id: string
  conflict_id: string
  class: string
  object: string
  path: string
}
type Db = Pick<Connection, 'query'>

/** A writer of one object: what it has seen, and the link of its newest edit. */
export class Replica {
  readonly name: ObjectName
  readonly #actor: string
  #prev: string | null = null
  state: ObjectState = emptyState

  constructor(name: ObjectName, deviceId: string, incarnation = 1) {
    this.name = name
    this.#actor = actorOf(deviceId, incarnation)
  }

  edit(change: Change): Delta | undefined {
    const delta = edit(this.name, this.state, { actor: this.#actor, prev: this.#prev }, change)
    if (delta === undefined) return undefined
    this.#prev = linkOf(delta)
    this.state = apply(this.state, delta)
    return delta
  }
}

/** The object as the database has it; undefined where it has none. */
export const stateIn = async (db: Db, lenser: string, { class: className, object }: ObjectName) => {
  const { rows } = await db.query(
    'SELECT state FROM devices.sync_objects WHERE (lenser_id, class, object) = ($1, $2, $3)',
    [lenser, className, object],
  )
  return (rows[0] as { state: ObjectState } | undefined)?.state
}

/**
 * Writes an object and its open conflicts as a merge does (rule 11), as superuser: what is tested here is what comes after. Within
 * a transaction of the caller's it holds the object, as a merge does.
 */
export const putObject = async (db: Db, lenser: string, name: ObjectName, state: ObjectState): Promise<void> => {
  const key = [lenser, name.class, name.object]
  await db.query(
    `INSERT INTO devices.sync_objects (lenser_id, class, object, state, digest) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (lenser_id, class, object) DO UPDATE SET state = excluded.state, digest = excluded.digest`,
    [...key, JSON.stringify(state), Buffer.from(digestOf(state), 'base64url')],
  )
  const open = conflictsOf(name.class, state)
  await db.query(
    `UPDATE devices.sync_conflicts SET closed_at = now()
      WHERE (lenser_id, class, object) = ($1, $2, $3) AND closed_at IS NULL AND path <> ALL ($4)`,
    [...key, open.map(({ path }) => path)],
  )
  for (const { path, sides } of open) {
    await db.query(
      `INSERT INTO devices.sync_conflicts (lenser_id, class, object, path, sides, sides_digest)
       VALUES ($1, $2, $3, $4, $5::jsonb, sha256(convert_to($5::jsonb::text, 'UTF8')))
       ON CONFLICT (lenser_id, class, object, path) WHERE closed_at IS NULL
       DO UPDATE SET sides = excluded.sides, sides_digest = excluded.sides_digest`,
      [...key, path, JSON.stringify(sides)],
    )
  }
}

/** What the sequencer does: gives what the gateway wrote its digest, and tells the feed. */
export const sequence = async (db: Db, lenser: string): Promise<void> => {
  const { rows } = await db.query(
    `WITH taken AS (DELETE FROM devices.sync_pending WHERE lenser_id = $1 RETURNING lenser_id, class, object)
     SELECT DISTINCT o.class, o.object, o.state FROM taken t JOIN devices.sync_objects o USING (lenser_id, class, object)`,
    [lenser],
  )
  for (const { class: className, object, state } of rows as { class: string; object: string; state: ObjectState }[]) {
    await db.query('UPDATE devices.sync_objects SET digest = $4 WHERE (lenser_id, class, object) = ($1, $2, $3)', [
      ...[lenser, className, object],
      Buffer.from(digestOf(state), 'base64url'),
    ])
    await db.query('SELECT devices.fn_sync_append(ARRAY[ROW($1, $2, $3)::devices.sync_key])', [
      lenser,
      className,
      object,
    ])
  }
}

/** What an account asks of its conflicts. */
export const createConflicts = (world: () => World) => {
  const answer = async (asker: Session, members: object = {}) =>
    resultOf(await world().ask(asker, 'sync_conflicts', members)) as unknown as {
      conflicts: ListedConflict[]
      more: boolean
    }
  return {
    answer,
    list: async (asker: Session, members: object = {}) => (await answer(asker, members)).conflicts,
    show: async (asker: Session, id: string) =>
      (await answer(asker, { conflict_id: id })).conflicts[0] as ListedConflict,
    resolve: (asker: Session, { id, sides_digest }: ListedConflict, winner: object, members: object = {}) =>
      world().ask(asker, 'sync_resolve', operation({ conflict_id: id, sides_digest, winner, ...members })),
    undo: (asker: Session, resolution_id: string) => world().ask(asker, 'sync_undo', operation({ resolution_id })),
  }
}
