import type { Stack } from '@lenserfight/local/stack'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { admissionsOf, changing, enterLine, until } from './_cut.ts'
import { asOwner, doorOnly } from './_door.ts'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { ...doorOnly, 'broker-auth': 2 } })
})
test.after.always(() => stack?.stop())

const newDevice = () =>
  asOwner(stack, async (client) => makeDevice(client, { lenser: (await makeAccount(client)).lenser }))
const replicas = () => stack.workers('broker-auth')
const revokeSql = `UPDATE devices.registered_devices SET trust_level = 'revoked', trust_actor = 'owner' WHERE id = $1`
const revoke = (kid: string) => changing(stack, revokeSql, [kid])

const listeners = () =>
  asOwner(stack, async (client) => {
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'broker-auth listens'`,
    )
    return rows.map(({ pid }) => pid)
  })
const hearing = async (t: ExecutionContext) => {
  await until('both replicas listen', async () => (await listeners()).length === 2)
  const device = await newDevice()
  return { device, line: await enterLine(t, stack, device) }
}

test.serial('each replica listens on a connection of its own, and again after it is lost', async (t) => {
  await until('both replicas listen', async () => (await listeners()).length === 2)
  const before = await listeners()
  await asOwner(stack, (client) => client.query('SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p', [before]))
  await until('both listen again', async () => {
    const now = await listeners()
    return now.length === 2 && now.every((pid) => !before.includes(pid))
  })
  t.pass()
})

test.serial('a notice that goes out while nobody listens costs no more than seconds', async (t) => {
  const { device, line } = await hearing(t)
  const began = Date.now()
  await asOwner(stack, async (client) => {
    await client.query('BEGIN')
    await client.query(revokeSql, [device.kid])
    await client.query('SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p', [await listeners()])
    await client.query('COMMIT')
  })
  const took = (await line.ended) - began
  t.log(`cut ${took} ms after the listeners were ended`)
  t.true(took < 10_000)
})

test.serial('without any notice at all it is the look at intervals that cuts', async (t) => {
  const { device, line } = await hearing(t)
  await asOwner(stack, (client) =>
    client.query(`CREATE OR REPLACE FUNCTION devices.fn_notify_cut() RETURNS void LANGUAGE sql AS 'SELECT'`),
  )
  t.teardown(() =>
    asOwner(stack, (client) =>
      client.query(
        `CREATE OR REPLACE FUNCTION devices.fn_notify_cut() RETURNS void LANGUAGE sql AS $$SELECT pg_notify('ltg_cut', '')$$`,
      ),
    ),
  )
  const began = await revoke(device.kid)
  const took = (await line.ended) - began
  t.log(`cut after ${took} ms`)
  t.true(took < 10_000)
})

test.serial('what was marked while no broker-auth ran is cut by the next that starts', async (t) => {
  const { device, line } = await hearing(t)
  await Promise.all(replicas().map((worker) => worker.stop()))
  await revoke(device.kid)
  await new Promise((resolve) => setTimeout(resolve, 3000))
  t.true(line.isOpen(), 'nobody is there to cut it')
  await replicas()[1]?.start()
  await line.ended
  await replicas()[0]?.start()
  t.pass()
})

test.serial(
  'killed between the mark and the kick, and the other one is hung: it is cut when either is back',
  async (t) => {
    const { device, line } = await hearing(t)
    const [first, second] = replicas()
    // Stopped, not gone: the notice is theirs, and nobody else has it.
    for (const worker of replicas()) worker.send('SIGSTOP')
    await revoke(device.kid)
    t.true(line.isOpen())
    first?.send('SIGKILL')
    await line.ended
    second?.send('SIGCONT')
    await until('nothing is due any more', async () => (await admissionsOf(stack, device.kid)).length === 0)
  },
)

test.serial('with the database gone nothing is cut; what is marked by then is cut when it is back', async (t) => {
  const { device, line } = await hearing(t)
  await Promise.all(replicas().map((worker) => worker.send('SIGSTOP')))
  await revoke(device.kid)
  await stack.postgres.stop()
  for (const worker of replicas()) worker.send('SIGCONT')
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.true(line.isOpen())
  await stack.postgres.restart()
  await line.ended
  t.pass()
})

test.serial('a server that is not there is asked again as long as the connection may live', async (t) => {
  const device = await newDevice()
  const elsewhere = `N${'B'.repeat(55)}`
  const [line, before] = [await enterLine(t, stack, device), (await admissionsOf(stack, device.kid)).length]
  t.is(before, 1)
  await changing(stack, 'UPDATE devices.admissions SET server_id = $2 WHERE kid = $1', [device.kid, elsewhere])
  await revoke(device.kid)
  await until(
    'it was tried',
    async () => Number((await admissionsOf(stack, device.kid))[0]?.due_at) > Date.now() + 20_000,
  )
  t.true(line.isOpen(), 'another server’s connection of that number is not kicked for it')
  await changing(stack, `UPDATE devices.admissions SET admitted_at = now() - interval '2 hours' WHERE kid = $1`, [
    device.kid,
  ])
  await until('it is forgotten', async () => (await admissionsOf(stack, device.kid)).length === 0)
})

test.serial(
  'a broker that is gone has nobody to cut; when it is back nobody is cut for its earlier life',
  async (t) => {
    const { device, line } = await hearing(t)
    await stack.nats.kill9()
    await line.ended
    await revoke(device.kid)
    await stack.nats.restart()
    await stack.whenReady()
    const other = await newDevice()
    const back = await enterLine(t, stack, other)
    const [due] = await admissionsOf(stack, device.kid)
    t.truthy(due?.due_at, 'it stays due: that server may only be out of reach')
    await new Promise((resolve) => setTimeout(resolve, 3000))
    t.true(back.isOpen())
    t.true(await back.mayPublish(inSubject({ ...other, kind: 'heartbeat' })))
  },
)
