import { randomBytes, randomUUID } from 'node:crypto'
import type { World } from '../_world.ts'

export interface Verdict {
  ok: boolean
  first_bad_index: string | null
  entries: string
  reason: string | null
}

/** Leaves records to be linked, as an operation's effect does. */
export const record = async (world: World, lenser: string, count: number): Promise<void> => {
  await world.rows(
    `SELECT audit.fn_record($1, $2, $3, uuidv7(), 'run_start', sha256(i::text::bytea), jsonb_build_object('n', i, 'é', '"\\'))
       FROM generate_series(1, $4::int) i`,
    [lenser, randomUUID(), randomUUID(), count],
  )
}

/** Links until nothing is pending. */
export const linkAll = async (world: World, limit = 1000): Promise<number> => {
  let linked = 0
  for (;;) {
    const { rows } = await world.as('ltg_audit_chain').query('SELECT audit.fn_chain_link($1) AS count', [limit])
    linked += rows[0].count
    if (rows[0].count < limit) return linked
  }
}

export const check = (world: World, lenser: string): Promise<Verdict> =>
  world.one<Verdict>(`SELECT * FROM audit.fn_chain_check($1, 'gateway')`, [lenser])

/** Changes the chain as a superuser who first disables the guards. */
export const tamper = async (world: World, statement: string, values: unknown[]): Promise<void> => {
  const client = await world.owner.connect()
  try {
    await client.query('BEGIN')
    await client.query('ALTER TABLE audit.hash_chains DISABLE TRIGGER USER')
    await client.query('ALTER TABLE audit.chain_heads DISABLE TRIGGER USER')
    await client.query(statement, values)
    await client.query('ALTER TABLE audit.hash_chains ENABLE ALWAYS TRIGGER deny_mutation')
    await client.query('ALTER TABLE audit.chain_heads ENABLE ALWAYS TRIGGER deny_mutation')
    await client.query('COMMIT')
  } finally {
    client.release()
  }
}

/** An account with a chain of this many entries, linked. */
export const chainOf = async (world: World, entries: number): Promise<string> => {
  const { id } = await world.addLenser()
  await record(world, id, entries)
  await linkAll(world)
  return id
}

export const randomHash = (): Buffer => randomBytes(32)
