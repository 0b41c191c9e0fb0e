import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readTestEnvironment, testPostgres } from '@lenserfight/testkit'
import test from 'ava'
import pg from 'pg'
import { migrate } from '../src/index.ts'

/** An empty database of its own, reached as superuser, and a folder for migrations. */
const open = async () => {
  const database = await testPostgres()
  const admin = new pg.Client(database.owner)
  await admin.connect()
  const name = `${database.owner.database}_m`
  await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`)
  const connection = { ...database.owner, database: name }
  const client = new pg.Client(connection)
  await client.connect()
  const dir = mkdtempSync(join(tmpdir(), 'migrations-'))
  const close = async () => {
    await client.end()
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
    await admin.end()
    await database.drop()
    rmSync(dir, { recursive: true })
  }
  const write = (file: string, sql: string) => writeFileSync(join(dir, file), sql)
  return { client, connection, dir, write, close }
}
const refused = { code: 'config_invalid' }

test('every migration applies to an empty database, once, also when two runners start at once', async (t) => {
  const { client, connection, close } = await open()
  const { migrations: dir } = readTestEnvironment()
  const second = new pg.Client(connection)
  await second.connect()
  const told: string[] = []
  const [one, two] = await Promise.all([
    migrate(client, { dir, log: (name) => told.push(name) }),
    migrate(second, { dir, log: (name) => told.push(name) }),
  ])
  t.true(one.length === 0 || two.length === 0)
  t.deepEqual([...one, ...two], told)
  t.true(told.length >= 10)
  t.deepEqual(await migrate(client, { dir }), [])
  await second.end()
  await close()
})

test('a file that fails is rolled back whole, what came before it stays, and it can be mended', async (t) => {
  const { client, dir, write, close } = await open()
  write('0001_create_one.sql', 'CREATE TABLE one (id int);')
  write('0002_create_two.sql', 'CREATE TABLE two (id int); SELECT 1 / 0;')
  const error = await t.throwsAsync(migrate(client, { dir }), refused)
  t.regex(error?.message ?? '', /0002_create_two.*division by zero/)
  const { rows } = await client.query(
    `SELECT to_regclass('one') IS NOT NULL AS one, to_regclass('two') IS NOT NULL AS two`,
  )
  t.deepEqual(rows, [{ one: true, two: false }])
  write('0002_create_two.sql', 'CREATE TABLE two (id int);')
  t.deepEqual(await migrate(client, { dir }), ['0002_create_two.sql'])
  await close()
})

test('a file changed, removed or put in between after it was applied is refused, and nothing is applied', async (t) => {
  const { client, dir, write, close } = await open()
  write('0001_create_one.sql', 'CREATE TABLE one (id int);')
  write('0003_create_three.sql', 'CREATE TABLE three (id int);')
  await migrate(client, { dir })
  write('0004_create_four.sql', 'CREATE TABLE four (id int);')
  write('0003_create_three.sql', 'CREATE TABLE three (id bigint);')
  await t.throwsAsync(migrate(client, { dir }), { ...refused, message: /0003_create_three.sql was changed/ })
  rmSync(join(dir, '0003_create_three.sql'))
  await t.throwsAsync(migrate(client, { dir }), { ...refused, message: /0003_create_three.sql was applied/ })
  write('0003_create_three.sql', 'CREATE TABLE three (id int);')
  write('0002_create_two.sql', 'CREATE TABLE two (id int);')
  await t.throwsAsync(migrate(client, { dir }), { ...refused, message: /0002_create_two.sql stands in its place/ })
  const { rows } = await client.query(`SELECT to_regclass('four') AS four`)
  t.deepEqual(rows, [{ four: null }])
  await close()
})

test('a name that says no place, and a place taken twice, are refused', async (t) => {
  const { client, dir, write, close } = await open()
  write('0001_create_one.sql', '')
  write('0001_create_other.sql', '')
  await t.throwsAsync(migrate(client, { dir }), refused)
  rmSync(join(dir, '0001_create_other.sql'))
  write('later.sql', '')
  await t.throwsAsync(migrate(client, { dir }), refused)
  await close()
})

test('a file cannot leave the owner’s role behind for the next one', async (t) => {
  const { client, dir, write, close } = await open()
  write('0001_act_as_owner.sql', 'SET LOCAL ROLE ltg_owner;')
  write('0002_act_as_runner.sql', `CREATE TABLE made AS SELECT current_user::text AS by;`)
  await migrate(client, { dir })
  t.deepEqual((await client.query('SELECT by FROM made')).rows, [{ by: 'postgres' }])
  await close()
})
