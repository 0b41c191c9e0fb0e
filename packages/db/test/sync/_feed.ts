import { randomUUID } from 'node:crypto'
import { apply, digestOf, edit, emptyState, type ObjectState, reservedActor } from '@lenserfight/sync'
import type { Pool } from '../../src/index.ts'

export type Db = Pick<Pool, 'query'>

export interface Named {
  readonly lenser: string
  readonly class: string
  readonly object: string
}

/** An object's state after one more edit of its name, or its deletion. */
export const edited = (state: ObjectState, className: string, change: string | null): ObjectState => {
  const by = { actor: reservedActor(), prev: null }
  const delta = edit(
    { class: className, object: 'any' },
    state,
    by,
    change === null ? 'delete' : { paths: { name: change } },
  )
  return delta === undefined ? state : apply(state, delta)
}
export const fresh = (className: string, name: string = randomUUID()): ObjectState =>
  edited(emptyState, className, name)

/** Writes an object as a merge does, without telling the feed of it. */
export const store = async (db: Db, { lenser, class: className, object }: Named, state: ObjectState): Promise<void> => {
  await db.query(
    `INSERT INTO devices.sync_objects (lenser_id, class, object, state, digest) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (lenser_id, class, object) DO UPDATE SET state = excluded.state, digest = excluded.digest`,
    [lenser, className, object, JSON.stringify(state), Buffer.from(digestOf(state), 'base64url')],
  )
}

export interface Told extends Named {
  readonly seq: number
}

/** Tells the feeds of these objects, in the transaction of `db`. */
export const append = async (db: Db, names: readonly Named[]): Promise<Told[]> => {
  const { rows } = await db.query(
    `SELECT a.lenser_id AS lenser, a.class, a.object, a.seq::int AS seq
       FROM devices.fn_sync_append(ARRAY(
         SELECT ROW(k.lenser_id, k.class, k.object)::devices.sync_key
           FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k (lenser_id, class, object))) a
      ORDER BY a.lenser_id, a.seq`,
    [names.map(({ lenser }) => lenser), names.map((each) => each.class), names.map(({ object }) => object)],
  )
  return rows as Told[]
}

/** The database's checksum of a class, as `checksumOf` writes one. */
export const storedChecksum = async (db: Db, lenser: string, className: string) => {
  const { rows } = await db.query(
    `SELECT s.objects::int AS count,
            encode(s.xor_high::bytea || s.xor_low::bytea, 'hex') AS xor
       FROM devices.sync_checksums s WHERE s.lenser_id = $1 AND s.class = $2`,
    [lenser, className],
  )
  return rows[0] as { count: number; xor: string } | undefined
}
