import { randomUUID } from 'node:crypto'
import { call, createPool, type Pool } from '@lenserfight/db'
import { createLogger, createState } from '@lenserfight/runtime'
import { type TestDatabase, testPostgres } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import { startLinker } from '../src/linker.ts'
import { until } from './_worker.ts'

const logger = createLogger({ service: 'audit-chain', level: 'silent' })
const anHour = 3_600_000
let database: TestDatabase
let owner: Pool

test.before(async () => {
  database = await testPostgres()
  owner = createPool({ ...database.owner, max: 4, logger })
})
test.after.always(async () => {
  await owner?.end()
  await database?.drop()
})

/** The worker's linker on its own role, as `main.ts` wires it; with when it asked, milliseconds. */
const start = (t: ExecutionContext, batch: number, pollMs: number) => {
  const pool = createPool({ ...database.as('ltg_audit_chain'), max: 1, logger })
  const state = createState({ logger })
  const asked: number[] = []
  const linker = startLinker({
    link: async (limit) => {
      asked.push(performance.now())
      const [row] = await call<{ fn_chain_link: number }>(pool, 'audit.fn_chain_link', [limit])
      return row?.fn_chain_link ?? 0
    },
    ...{ state, logger, batch, pollMs },
  })
  t.teardown(async () => {
    await linker.stop()
    await pool.end()
  })
  return { linker, state, asked }
}
const record = async (count: number): Promise<void> => {
  await owner.query(
    `SELECT audit.fn_record($1, NULL, gen_random_uuid(), uuidv7(), 'run_start', sha256('x'), '{"ok":true}')
       FROM generate_series(1, $2::int)`,
    [randomUUID(), count],
  )
}
const countOf = async (rows: string): Promise<number> =>
  (await owner.query(`SELECT count(*)::int AS n FROM ${rows}`)).rows[0].n

test.serial('full batches follow one another without a rest; then it looks again after the poll', async (t) => {
  await record(23)
  const hasty = start(t, 10, anHour)
  await until(async () => hasty.linker.figures().linked === 23)
  t.is(hasty.asked.length, 3, 'the last was not full')
  await hasty.linker.stop()
  await record(3)
  const { linker, asked } = start(t, 10, 700)
  await until(async () => linker.figures().linked === 3)
  await record(1)
  await until(async () => linker.figures().linked === 4)
  const [first = 0, second = 0] = asked
  // The system's timers may be a millisecond early.
  t.true(second - first >= 699)
})

test.serial('it consumes only after linking worked, holds when it does not, and goes on by itself', async (t) => {
  const name = database.owner.database
  await owner.query(`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`)
  const { linker, state } = start(t, 10, 10)
  try {
    t.is(state.state(), 'starting')
    await until(async () => state.state() !== 'starting')
    t.is(state.state(), 'holding')
    t.true(linker.figures().failures >= 1)
  } finally {
    await owner.query(`GRANT CONNECT ON DATABASE ${name} TO PUBLIC`)
  }
  await until(async () => state.state() === 'consuming')
})

/** Holds what each link holds, as another replica that is at it. */
const holdLinking = async () => {
  const connection = await owner.connect()
  const lock = (name: string) => connection.query(`SELECT ${name}(hashtextextended('audit.fn_chain_link', 0))`)
  await lock('pg_advisory_lock')
  return {
    /** Somebody waits for it. */
    isAwaited: async () =>
      (await countOf(
        `pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() WHERE NOT l.granted`,
      )) === 1,
    release: async () => {
      await lock('pg_advisory_unlock')
      connection.release()
    },
  }
}

test.serial('stopping finishes the batch in flight and begins no other', async (t) => {
  await record(2)
  const hold = await holdLinking()
  const { linker, asked } = start(t, 1, 10)
  await until(hold.isAwaited)
  let isStopped = false
  const stopped = linker.stop().then(() => {
    isStopped = true
  })
  t.true(await hold.isAwaited())
  t.false(isStopped, 'it is at it still')
  await hold.release()
  await stopped
  t.deepEqual([asked.length, linker.figures().linked, await countOf('audit.pending')], [1, 1, 1])
})
