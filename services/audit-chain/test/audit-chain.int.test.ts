import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { createPool, type Pool } from '@lenserfight/db'
import { createLogger } from '@lenserfight/runtime'
import { type TestDatabase, testPostgres } from '@lenserfight/testkit'
import test from 'ava'
import { until, Worker } from './_worker.ts'

const logger = createLogger({ service: 'audit-chain-test', level: 'silent' })
let database: TestDatabase
let owner: Pool

test.before(async () => {
  database = await testPostgres()
  owner = createPool({ ...database.owner, max: 4, logger })
})
test.after.always(async () => {
  // What a failed test left behind.
  await Promise.all(started.map((worker) => worker.end('SIGKILL')))
  await owner.end()
  await database.drop()
})

const started: Worker[] = []
const start = (): Worker => {
  const worker = new Worker(database.as('ltg_audit_chain'))
  started.push(worker)
  return worker
}

/** Leaves records of several accounts, each statement a transaction as an effect's is. */
const record = async (lensers: readonly string[], count: number): Promise<void> => {
  for (let left = count; left > 0; left -= 25) {
    await owner.query(
      `SELECT audit.fn_record(($1::uuid[])[1 + i % $3::int], NULL, gen_random_uuid(), uuidv7(), 'run_start', sha256('x'), '{"ok":true}')
         FROM generate_series(1, least($2::int, 25)) i`,
      [lensers, left, lensers.length],
    )
  }
}
const countOf = async (table: string, lensers: readonly string[]): Promise<number> =>
  (await owner.query(`SELECT count(*)::int AS n FROM ${table} WHERE lenser_id = ANY ($1)`, [lensers])).rows[0].n

const checkAll = async (lensers: readonly string[]): Promise<{ ok: boolean; entries: number }> =>
  (
    await owner.query(
      `SELECT bool_and(c.ok) AS ok, sum(c.entries)::int AS entries
         FROM unnest($1::uuid[]) l, audit.fn_chain_check(l, 'gateway') c`,
      [lensers],
    )
  ).rows[0]

const accounts = (count: number) => Array.from({ length: count }, () => randomUUID())

test.serial('AU-2: what effects left is linked while it comes, and the worker is ready', async (t) => {
  const lensers = accounts(3)
  await record(lensers, 120)
  const worker = start()
  await worker.until('consuming')
  await record(lensers, 130)
  await until(async () => (await countOf('audit.hash_chains', lensers)) === 250)
  t.deepEqual(await checkAll(lensers), { ok: true, entries: 250 })
  // The last batch is in the database before its worker has counted it.
  await until(async () => (await worker.ready())?.linked === 250)
  t.like(await worker.ready(), { status: 200, state: 'consuming', linked: 250 })
  t.is(await worker.end('SIGTERM'), 0)
})

test.serial(
  'killed again and again under load, two at a time: each record in one place, none lost, chains whole',
  async (t) => {
    const lensers = accounts(5)
    const loading = record(lensers, 2000)
    let workers = [start(), start()]
    await Promise.all(workers.map((worker) => worker.until('consuming')))
    for (let round = 0; round < 4; round += 1) {
      await sleep(randomInt(5, 120))
      const victim = workers[round % 2] as Worker
      await victim.end('SIGKILL')
      workers = workers.map((worker) => (worker === victim ? start() : worker))
    }
    await loading
    await until(async () => (await countOf('audit.pending', lensers)) === 0)
    t.deepEqual(await checkAll(lensers), { ok: true, entries: 2000 })
    t.is(await countOf('audit.hash_chains', lensers), 2000)
    for (const worker of workers) {
      await worker.until('consuming')
      t.is(await worker.end('SIGTERM'), 0)
    }
  },
)

test.serial('without the database it holds and is not ready; when it is back it goes on by itself', async (t) => {
  const lensers = accounts(2)
  const worker = start()
  await worker.until('consuming')
  // As when the server is gone: connections end, and no new one is let in. (Of this database: others share the cluster.)
  await owner.query(`REVOKE CONNECT ON DATABASE ${database.owner.database} FROM PUBLIC`)
  try {
    await owner.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ltg_audit_chain' AND datname = current_database()`,
    )
    await worker.until('holding')
    t.is((await worker.ready())?.status, 503)
    await record(lensers, 60)
    await sleep(100)
    t.is(await countOf('audit.pending', lensers), 60)
  } finally {
    await owner.query(`GRANT CONNECT ON DATABASE ${database.owner.database} TO PUBLIC`)
  }
  await worker.until('consuming')
  await until(async () => (await countOf('audit.hash_chains', lensers)) === 60)
  t.deepEqual(await checkAll(lensers), { ok: true, entries: 60 })
  t.is(await worker.end('SIGTERM'), 0)
  t.regex(worker.log, /"event":"link_failed"/)
  t.false(worker.log.includes(database.as('ltg_audit_chain').password))
})
