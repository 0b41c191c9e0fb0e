import { createLogger, InfrastructureError } from '@lenserfight/runtime'
import { testPostgres } from '@lenserfight/testkit'
import test from 'ava'
import { call, createPool, withConnection } from '../src/index.ts'

const logger = createLogger({ service: 'pool-test', level: 'silent' })

test('a statement that takes too long is cancelled, and is infrastructure', async (t) => {
  const database = await testPostgres()
  const pool = createPool({ ...database.owner, max: 2, logger, statementTimeoutMs: 200 })
  const blocker = createPool({ ...database.owner, max: 1, logger })
  await blocker.query(`SELECT pg_advisory_lock(hashtextextended('audit.fn_chain_link', 0))`)
  const error = await t.throwsAsync(call(pool, 'audit.fn_chain_link', [1]), { instanceOf: InfrastructureError })
  t.regex(error?.message ?? '', /57014/)
  await Promise.all([pool.end(), blocker.end()])
  await database.drop()
})

test('no server, a wrong password, no room in the pool: infrastructure, in time', async (t) => {
  const database = await testPostgres()
  const wrong = [{ host: '/nowhere' }, { host: '127.0.0.1', port: 1 }, { password: 'wrong' }, { database: 'nothing' }]
  for (const part of wrong) {
    const pool = createPool({ ...database.owner, max: 1, logger, ...part })
    await t.throwsAsync(call(pool, 'devices.fn_ok', []), { instanceOf: InfrastructureError }, JSON.stringify(part))
    await pool.end()
  }
  const full = createPool({ ...database.owner, max: 1, logger, connectTimeoutMs: 2000 })
  const taken = await full.connect()
  await t.throwsAsync(call(full, 'devices.fn_ok', []), { instanceOf: InfrastructureError })
  taken.release()
  t.is((await call(full, 'devices.fn_ok', [])).length, 1)
  await full.end()
  await database.drop()
})

test('whoever stops in the midst of a transaction is put out of it', async (t) => {
  const database = await testPostgres()
  const pool = createPool({ ...database.owner, max: 1, logger })
  const { rows } = await pool.query(
    `SELECT current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('statement_timeout') AS statement,
            current_setting('application_name') AS name`,
  )
  t.deepEqual(rows, [{ idle: '10s', statement: '30s', name: 'pool-test' }])
  await pool.end()
  await database.drop()
})

test('a connection that breaks while somebody holds it fails their next statement, and never the process', async (t) => {
  const database = await testPostgres()
  const pool = createPool({ ...database.owner, max: 1, logger })
  const killer = createPool({ ...database.owner, max: 1, logger })
  await t.throwsAsync(
    withConnection(pool, async (connection) => {
      const { rows } = await connection.query('SELECT pg_backend_pid() AS pid')
      const ended = new Promise((resolve) => connection.once('end', resolve))
      await killer.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
      await ended
      await connection.query('SELECT 1')
    }),
    { instanceOf: InfrastructureError },
  )
  t.is((await call(pool, 'devices.fn_ok', [])).length, 1)
  await Promise.all([pool.end(), killer.end()])
  await database.drop()
})
