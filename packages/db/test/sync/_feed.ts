import { randomUUID } from 'node:crypto'
import { generateKeyPair, signEnvelope } from '@lenserfight/envelope'
import { apply, digestOf, edit, emptyState, type ObjectState, reservedActor } from '@lenserfight/sync'
import { nextCounter } from '@lenserfight/testkit'
import type { Pool } from '../../src/index.ts'
import type { World } from '../_world.ts'

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

const key = generateKeyPair().privateKey
const aud = randomUUID()

export interface Pull {
  readonly device: string
  readonly cursors: Readonly<Record<string, number>>
  readonly epoch?: number | null
  readonly report?: Readonly<Record<string, unknown>>
}

/** A pull's envelope, claimed as a verifier does, with its verdict. */
export const sealed = async (world: World, pull: Pull, stored = Date.now(), verdict = 'ok'): Promise<string> => {
  const report = { pending: 0, set_aside: 0, diverged: [], ...pull.report }
  const body = { aud, kind: 'sync_pull', counter: nextCounter(), epoch: pull.epoch === undefined ? 1 : pull.epoch }
  const { text, envelope, digest } = signEnvelope({
    ...{ kid: pull.device, key, iat: Math.floor(stored / 1000) },
    body: { ...body, cursors: pull.cursors, report },
  })
  await world.owner.query(
    `INSERT INTO devices.envelope_claims
       (door, kid, nonce, iat, kind, digest, verdict, lenser_id, stream, seq, stored_ns, key_number)
     SELECT 'ingress', d.id, $2, $3, 'sync_pull', $4, $7, d.lenser_id, 'LTG_INGRESS', $5, $6, 1
       FROM devices.registered_devices d WHERE d.id = $1`,
    [pull.device, envelope.nonce, envelope.iat, digest, body.counter, BigInt(stored) * 1_000_000n, verdict],
  )
  return text
}

export interface Row {
  readonly seq: number
  readonly object: string
  readonly op: 'upsert' | 'delete' | 'purge'
  readonly state?: ObjectState
  readonly digest?: string
}
export interface ClassPage {
  readonly code?: string
  readonly after: number
  readonly upto: number
  readonly more: boolean
  readonly rows: readonly Row[]
  readonly checksum?: { readonly count: number; readonly xor: string }
}
export interface Page {
  readonly epoch: number
  readonly more: boolean
  readonly classes: Readonly<Record<string, ClassPage>>
}
export interface Outcome {
  readonly ok: boolean
  readonly code?: string
  readonly lenser?: string
  readonly result?: Page
}

/** What becomes of sealed pulls, in their order. */
export const answer = async (db: Db, texts: readonly string[]): Promise<Outcome[]> => {
  const { rows } = await db.query('SELECT outcome FROM devices.fn_sync_pull($1) ORDER BY idx', [texts])
  return rows.map(({ outcome }: { outcome: Outcome }) => outcome)
}

/** The page that one pull is given, by the applier's own role. */
export const pull = async (world: World, asked: Pull): Promise<Page> => {
  const [outcome] = await answer(world.as('ltg_sync_applier'), [await sealed(world, asked)])
  if (outcome?.result === undefined) throw new Error(`refused: ${outcome?.code}`)
  return outcome.result
}
