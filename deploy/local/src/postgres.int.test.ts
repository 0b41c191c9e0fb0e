import { chmodSync, cpSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { allGone, newRun, ownRun, ownTemporary } from './_support.ts'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { type Postgres, startPostgres } from './postgres.ts'
import { packagedPostgres } from './postgres-binaries.ts'
import { createDatabase, dropDatabase, rolePassword, withClient } from './postgres-connection.ts'
import type { Run } from './run.ts'

const isRoot = process.getuid?.() === 0

/** One cluster for the tests that neither end it nor say how it starts. */
let common: Run | undefined
let postgres: Postgres
test.before(async () => {
  const { env, run } = await newRun()
  common = run
  postgres = await startPostgres({ env, run, fsync: false })
})
test.after.always(() => common?.close())

test('PostgreSQL starts with UTF-8 and the C locale, on a socket alone, and not as root', async (t) => {
  const [row] = await withClient(postgres.owner, async (client) => {
    const { rows } = await client.query(`SELECT current_setting('server_encoding') AS encoding,
      datcollate AS collate, current_setting('listen_addresses') AS addresses,
      current_setting('max_connections') AS connections FROM pg_database WHERE datname = 'postgres'`)
    return rows
  })
  t.deepEqual(row, { encoding: 'UTF8', collate: 'C', addresses: '', connections: '200' })
  t.is(statSync(`/proc/${postgres.pid}`).uid, isRoot ? 65534 : (readEnvironment().uid as number))
})

test('everybody needs a password, the owner too, and roles are separate', async (t) => {
  const { owner } = postgres
  const password = rolePassword(owner, 'ltg_worker')
  await withClient(owner, (client) => client.query(`CREATE ROLE ltg_worker LOGIN PASSWORD '${password}'`))

  const worker = { ...owner, user: 'ltg_worker', password }
  t.is(await withClient(worker, async (c) => (await c.query('SELECT current_user AS me')).rows[0].me), 'ltg_worker')
  const refused = { code: '28P01' }
  await t.throwsAsync(
    withClient({ ...worker, password: owner.password }, async () => {}),
    refused,
  )
  await t.throwsAsync(
    withClient({ ...owner, password }, async () => {}),
    refused,
  )
})

test('committed rows outlive an orderly restart and a kill', async (t) => {
  const { env, run } = await ownRun(t)
  const postgres = await startPostgres({ env, run })
  const count = () =>
    withClient(postgres.owner, async (c) => (await c.query('SELECT count(*)::int AS n FROM kept')).rows[0].n)
  await withClient(postgres.owner, (client) => client.query('CREATE TABLE kept AS SELECT 1'))

  const first = postgres.pid
  await postgres.restart()
  t.not(postgres.pid, first)
  t.is(await count(), 1)

  const second = postgres.pid
  await withClient(postgres.owner, (client) => client.query('INSERT INTO kept VALUES (2)'))
  await postgres.kill9()
  t.true(allGone([second]))
  await postgres.restart()
  t.is(await count(), 2)
})

test('a database is cloned from a template and dropped under its users', async (t) => {
  const { owner } = postgres
  const template = await createDatabase(owner, { name: 'pattern' })
  await withClient(template, (client) => client.query('CREATE TABLE seen AS SELECT 7 AS value'))
  const clone = await createDatabase(owner, { template: 'pattern' })
  await withClient(clone, async (client) => {
    t.is((await client.query('SELECT value FROM seen')).rows[0].value, 7)
    await dropDatabase(owner, clone.database)
    await t.throwsAsync(client.query('SELECT 1'))
  })
  await t.throwsAsync(
    withClient(clone, async () => {}),
    { code: '3D000' },
  )
})

test('what statements, keys and rows hold does not get into the log', async (t) => {
  await withClient(postgres.owner, async (client) => {
    await client.query('CREATE TABLE secrets (value text PRIMARY KEY)')
    await client.query('INSERT INTO secrets VALUES ($1)', ['LTG-CANARY'])
    await t.throwsAsync(client.query('INSERT INTO secrets VALUES ($1)', ['LTG-CANARY']), { code: '23505' })
    await t.throwsAsync(client.query(`SELECT 'LTG-CANARY' FROM nowhere`), { code: '42P01' })
  })
  const log = readFileSync(postgres.log, 'utf8')
  t.regex(log, /duplicate key/)
  t.notRegex(log, /LTG-CANARY/)
})

test('a socket path that the system would cut is refused with the remedy', async (t) => {
  const { env, run } = await ownRun(t)
  const dir = join(run.folder, 'x'.repeat(90))
  const error = await t.throwsAsync(startPostgres({ env, run, dir }), { instanceOf: LocalError })
  t.is(error.code, 'socket_path_too_long')
})

test('a start that fails says so with the last lines of the log', async (t) => {
  const { env, run } = await ownRun(t)
  const settings = { shared_buffers: 'nonsense' }
  const error = await t.throwsAsync(startPostgres({ env, run, settings }), { instanceOf: LocalError })
  t.is(error.code, 'postgres_start_failed')
  t.regex(error.message, /shared_buffers/)
})

test('binaries below a folder that is closed to others are copied where PostgreSQL’s user can read them', async (t) => {
  const { env, run } = await ownRun(t)
  const closed = ownTemporary(t)
  cpSync(dirname(packagedPostgres()), closed, { recursive: true, verbatimSymlinks: true })
  chmodSync(closed, 0o700)
  const postgres = await startPostgres({ env, run, fsync: false, binaries: join(closed, 'native') })
  t.is(await withClient(postgres.owner, async (c) => (await c.query('SELECT 1 AS one')).rows[0].one), 1)
})
