import test from 'ava'
import { canary, heartbeat } from '../_bodies.ts'
import { createWorld, type Device, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const addDevice = async (levels?: Parameters<World['addDevice']>[1]) => world.addDevice(await world.addLenser(), levels)
const rowOf = (device: Device) =>
  world.one<object>('SELECT * FROM devices.registered_devices WHERE id = $1', [device.id])
const recordsOf = async (device: Device): Promise<object[]> => {
  const text = `SELECT digest, payload FROM audit.pending WHERE device_id = $1 AND event_kind = 'canary'`
  return (await world.owner.query(text, [device.id])).rows
}

test('AU-2: a canary names its hops, changes nothing of its device, and leaves one record', async (t) => {
  const device = await addDevice()
  const before = await rowOf(device)
  const stored = Date.now() - 5000
  const { ok, result, digest } = await world.send(device, canary(), { stored })
  t.true(ok)
  t.deepEqual(Object.keys(result).sort(), ['applied_at_ms', 'claimed_at_ms', 'stored_at_ms'])
  t.is(result.stored_at_ms, stored)
  t.true(result.stored_at_ms < result.claimed_at_ms && result.claimed_at_ms <= result.applied_at_ms)
  t.true(Math.abs(result.applied_at_ms - Date.now()) < 60_000)
  t.deepEqual(await rowOf(device), before)
  t.deepEqual(await recordsOf(device), [{ digest: Buffer.from(digest, 'base64url'), payload: { ok: true, result } }])
})

test('a canary that comes again, in one batch or later, has the times that it had', async (t) => {
  const device = await addDevice()
  const text = await world.seal(device, canary())
  const [first, twin] = await world.apply('canary', [text, text])
  await new Promise((resolve) => setTimeout(resolve, 5))
  t.deepEqual(twin, first as Outcome)
  t.deepEqual(await world.apply('canary', [text]), [first as Outcome])
  await world.setLevel(device, 'revoked')
  t.deepEqual(await world.apply('canary', [text]), [first as Outcome])
  t.is((await recordsOf(device)).length, 1)
})

test('canaries are kept for an hour', async (t) => {
  const device = await addDevice()
  await world.owner.query(
    `INSERT INTO devices.canaries VALUES ($1, sha256('1'), now() - interval '61 minutes', now()), ($1, sha256('2'), now() - interval '59 minutes', now())`,
    [device.id],
  )
  await world.send(device, canary())
  const { rows } = await world.owner.query('SELECT FROM devices.canaries WHERE device_id = $1', [device.id])
  t.is(rows.length, 2)
})

test('a revoked or blocked device’s canary is refused, as is one that nobody claimed or of another kind', async (t) => {
  for (const level of ['revoked', 'blocked'] as const) {
    const device = await addDevice(['approved', level])
    t.is((await world.send(device, canary())).code, `device_${level}`)
    t.is((await recordsOf(device)).length, 0)
  }
  const device = await addDevice([])
  const texts = [
    await world.seal(device, canary(), { verdict: 'none' }),
    await world.seal(device, heartbeat()),
    await world.seal(device, canary()),
  ]
  t.deepEqual(
    (await world.apply('canary', texts)).map(({ ok, code }) => [ok, code]),
    [
      [false, 'claim_expired'],
      [false, 'kind_mismatch'],
      [true, undefined],
    ],
  )
  t.is((await recordsOf(device)).length, 1)
})
