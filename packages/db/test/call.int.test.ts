import { InfrastructureError } from '@lenserfight/runtime'
import test from 'ava'
import { type Connection, call, DataError, withConnection, withTransaction } from '../src/index.ts'
import { useWorld } from './_world.ts'

const world = useWorld(test)
const pidOf = async (db: Connection): Promise<number> => (await db.query('SELECT pg_backend_pid() AS pid')).rows[0].pid

test('a function is called by name, with bytes, arrays and JSON', async (t) => {
  t.deepEqual(await call(world().owner, 'devices.fn_b64url', [new Uint8Array([255, 254])]), [{ fn_b64url: '__4' }])
  t.deepEqual(await call(world().owner, 'devices.fn_ok', [{ n: 1 }]), [{ fn_ok: { ok: true, result: { n: 1 } } }])
  t.deepEqual(await call(world().owner, 'devices.fn_signers', [[crypto.randomUUID()]]), [])
  t.deepEqual(await call(world().owner, 'devices.fn_limits', []), [{ fn_limits: (await limits()).fn_limits }])
})
const limits = () => world().one<{ fn_limits: object }>('SELECT devices.fn_limits()')

test('a name that is none is wrong use', async (t) => {
  for (const name of ['fn_ok', 'a.b; DROP TABLE x', 'devices.fn_ok(', 'Devices.fn']) {
    await t.throwsAsync(call(world().owner, name, []), { instanceOf: TypeError }, name)
  }
})

test('a data error names its state, and its connection is used again', async (t) => {
  const error = await t.throwsAsync(call(world().owner, 'devices.fn_limit', ['nothing']), { instanceOf: DataError })
  t.is(error?.sqlState, 'LT004')
  await withConnection(world().owner, async (db) => {
    const before = await pidOf(db)
    await t.throwsAsync(call(db, 'devices.fn_read_envelope', ['no']), { code: 'malformed_envelope' })
    t.is(await pidOf(db), before)
  })
})

test('what a role may not call, and what does not exist, is infrastructure: no message is to blame', async (t) => {
  const pool = world().as('ltg_registrar')
  await t.throwsAsync(call(pool, 'audit.fn_chain_link', [1]), { instanceOf: InfrastructureError })
  await t.throwsAsync(call(world().owner, 'devices.fn_nothing', []), { instanceOf: InfrastructureError })
})

test('a connection that the server ends is infrastructure, and the pool makes another', async (t) => {
  const pool = world().as('ltg_verifier')
  const using = withConnection(pool, async (db) => {
    const pid = await pidOf(db)
    await Promise.all([db.query('SELECT pg_sleep(60)'), world().rows('SELECT pg_terminate_backend($1)', [pid])])
  })
  await t.throwsAsync(using, { instanceOf: InfrastructureError })
  t.deepEqual(await call(pool, 'devices.fn_signers', [[]]), [])
})

test('a connection whose infrastructure failed is not used again, though it still answers', async (t) => {
  const pool = world().as('ltg_broker_auth')
  let before = 0
  const failing = withConnection(pool, async (db) => {
    before = await pidOf(db)
    await db.query(`DO $$ BEGIN RAISE EXCEPTION 'slow' USING ERRCODE = '57014'; END $$`)
  })
  await t.throwsAsync(failing, { instanceOf: InfrastructureError })
  t.not(await withConnection(pool, pidOf), before)
})

test('a connection that breaks while nobody uses it harms nobody', async (t) => {
  const pool = world().as('ltg_trust_evaluator')
  const pid = await withConnection(pool, pidOf)
  const noticed = new Promise<void>((done) => pool.once('remove', () => done()))
  await world().rows('SELECT pg_terminate_backend($1)', [pid])
  await noticed
  t.deepEqual(await call(pool, 'devices.fn_signers', [[]]), [])
})

test('a transaction is committed when its function resolves, and rolled back when it throws', async (t) => {
  const lenser = await world().addLenser()
  const rename = (db: Connection, subject: string) =>
    db.query('UPDATE lensers.profiles SET subject = $2 WHERE id = $1', [lenser.id, subject])
  const subject = async () =>
    (await world().one<{ subject: string }>('SELECT subject FROM lensers.profiles WHERE id = $1', [lenser.id])).subject
  t.is(await withTransaction(world().owner, async (db) => (await rename(db, 'one')).rowCount), 1)
  t.is(await subject(), 'one')
  const mistake = new Error('not the database’s')
  const failing = withTransaction(world().owner, async (db) => {
    await rename(db, 'two')
    throw mistake
  })
  t.is(await t.throwsAsync(failing), mistake)
  t.is(await subject(), 'one')
  await t.throwsAsync(
    withTransaction(world().owner, (db) => db.query('SELECT 1/0')),
    { instanceOf: DataError },
  )
})
