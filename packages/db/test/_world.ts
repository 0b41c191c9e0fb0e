import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { createLogger } from '@lenserfight/runtime'
import type { DeviceLevel } from '@lenserfight/schemas'
import { testPostgres } from '@lenserfight/testkit'
import type { ExecutionContext, TestFn } from 'ava'
import { createPool, type Pool } from '../src/index.ts'

export interface Lenser {
  readonly id: string
  /** Its owner's auth.uid(). */
  readonly user: string
}

const logger = createLogger({ service: 'db-test', level: 'silent' })

export const sha256 = (bytes: string | Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

/** A fresh database with every migration, as its owner and as each of its roles. */
export class World {
  readonly owner: Pool
  readonly #poolAs: (role: string) => Pool
  readonly #drop: () => Promise<void>
  readonly #pools = new Map<string, Pool>()

  constructor(owner: Pool, poolAs: (role: string) => Pool, drop: () => Promise<void>) {
    this.owner = owner
    this.#poolAs = poolAs
    this.#drop = drop
  }

  /** A pool of a service's login role, with its real password. */
  as(role: string): Pool {
    const pool = this.#pools.get(role) ?? this.#poolAs(role)
    this.#pools.set(role, pool)
    return pool
  }

  async rows<T = Record<string, unknown>>(text: string, values: unknown[] = []): Promise<T[]> {
    return (await this.owner.query(text, values)).rows as T[]
  }

  async one<T = Record<string, unknown>>(text: string, values: unknown[] = []): Promise<T> {
    const [row] = await this.rows<T>(text, values)
    if (row === undefined) throw new Error(`no row: ${text}`)
    return row
  }

  /** Runs statements as a person's browser would: role `authenticated`, their token's claims; rolled back. */
  async asUser<T>(user: string, use: (query: (text: string, values?: unknown[]) => Promise<T[]>) => Promise<T[]>) {
    const client = await this.owner.connect()
    try {
      await client.query('BEGIN')
      await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: user })])
      await client.query('SET LOCAL ROLE authenticated')
      return await use(async (text, values) => (await client.query(text, values)).rows as T[])
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  }

  async addLenser(): Promise<Lenser> {
    const user = randomUUID()
    const { id } = await this.one<{ id: string }>(
      `INSERT INTO lensers.profiles (user_id, issuer, subject) VALUES ($1, 'https://issuer.test', $2) RETURNING id`,
      [user, user],
    )
    return { id, user }
  }

  /** A device brought to a level by the transitions that lead there. */
  async addDevice(lenser: string, level: DeviceLevel = 'pending'): Promise<string> {
    const { id } = await this.one<{ id: string }>(
      `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
       VALUES ($1, $2, 'server', 'linux', $3) RETURNING id`,
      [lenser, randomUUID(), randomBytes(32)],
    )
    for (const step of ways[level]) await this.setLevel(id, step)
    return id
  }

  async setLevel(device: string, level: string): Promise<void> {
    await this.owner.query(
      `UPDATE devices.registered_devices
          SET trust_level = $2, public_key = CASE WHEN $2 = 'approved' THEN submitted_public_key ELSE public_key END
        WHERE id = $1`,
      [device, level],
    )
  }

  levelOf(device: string) {
    return this.one<{ trust_level: string; earlier_level: string | null }>(
      'SELECT trust_level, earlier_level FROM devices.registered_devices WHERE id = $1',
      [device],
    )
  }

  async close(): Promise<void> {
    await Promise.all([this.owner, ...this.#pools.values()].map((pool) => pool.end()))
    await this.#drop()
  }
}

const ways: Record<DeviceLevel, readonly DeviceLevel[]> = {
  pending: [],
  approved: ['approved'],
  trusted: ['approved', 'trusted'],
  offline: ['approved', 'offline'],
  unhealthy: ['approved', 'unhealthy'],
  revoked: ['approved', 'revoked'],
  blocked: ['approved', 'blocked'],
}

export const openWorld = async (): Promise<World> => {
  const database = await testPostgres()
  const open = (connection: typeof database.owner) => createPool({ ...connection, max: 6, logger })
  return new World(open(database.owner), (role) => open(database.as(role)), database.drop)
}

/** One world for a test file. */
export const useWorld = (test: TestFn): (() => World) => {
  let world: World | undefined
  test.before(async () => {
    world = await openWorld()
  })
  test.after.always(() => world?.close())
  return () => world as World
}

/** The statement is refused with this SQLSTATE. */
export const refuses = async (
  t: ExecutionContext,
  statement: () => Promise<unknown>,
  state: string,
  what = '',
): Promise<void> => {
  const error = await t.throwsAsync(statement, undefined, what)
  t.is((error as Error & { code?: string })?.code, state, `${what} ${error?.message}`)
}
