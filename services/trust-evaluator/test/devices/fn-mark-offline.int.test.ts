import type { DeviceLevel } from '@lenserfight/schemas'
import { makeLegacyDevice } from '@lenserfight/testkit'
import test from 'ava'
import { heartbeat } from '../_bodies.ts'
import { createWorld, type Device, type World } from '../_world.ts'
import { hours, tell } from './_history.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

/** Heard so long ago, or never; approved so long ago. */
const addDevice = async (
  heard: number | undefined,
  levels: readonly DeviceLevel[] = ['approved'],
  approved = hours(0),
) => {
  const device = await world.addDevice(await world.addLenser(), levels)
  await tell(world, device, heard === undefined ? {} : { heard })
  await world.owner.query('UPDATE devices.registered_devices SET approved_at = $2 WHERE id = $1', [
    device.id,
    new Date(Date.now() - approved),
  ])
  return device
}
const mark = async (limit = 1000): Promise<number> =>
  (await world.evaluator.query('SELECT devices.fn_mark_offline($1) AS n', [limit])).rows[0].n
const rowOf = ({ id }: Pick<Device, 'id'>) =>
  world.one<Record<string, unknown>>(
    'SELECT trust_level, earlier_level, gateway_status FROM devices.registered_devices WHERE id = $1',
    [id],
  )

test.serial(
  'DH-3: no heartbeat for more than 24 h brings a device to offline, and a heartbeat brings it back',
  async (t) => {
    const silent = await addDevice(hours(24.1))
    const trusted = await addDevice(hours(30), ['approved', 'trusted'])
    const heard = await addDevice(hours(23.9))
    t.is(await mark(), 2)
    t.like(await rowOf(silent), { trust_level: 'offline', earlier_level: 'approved' })
    t.like(await rowOf(trusted), { trust_level: 'offline', earlier_level: 'trusted' })
    t.like(await rowOf(heard), { trust_level: 'approved' })
    t.is(await mark(), 0, 'twice is once')
    const { rows } = await world.owner.query(
      `SELECT payload FROM audit.hash_chains WHERE device_id = $1 AND payload ->> 'to' = 'offline'`,
      [silent.id],
    )
    t.deepEqual(rows, [{ payload: { from: 'approved', to: 'offline', actor: 'server', reason: 'no heartbeat' } }])
    t.deepEqual((await world.send(trusted, heartbeat())).result?.trust_level, 'trusted')
    t.like(await rowOf(trusted), { trust_level: 'trusted', earlier_level: null, gateway_status: 'connected' })
    t.is(await mark(), 0)
  },
)

test.serial('DA-5: approved over 24 h ago and never heard, a device shows gateway_status disconnected', async (t) => {
  const [old, fresh] = [await addDevice(undefined, ['approved'], hours(25)), await addDevice(undefined)]
  await mark()
  t.deepEqual(await rowOf(old), { trust_level: 'offline', earlier_level: 'approved', gateway_status: 'disconnected' })
  t.deepEqual(await rowOf(fresh), { trust_level: 'approved', earlier_level: null, gateway_status: 'disconnected' })
})

test.serial('a device that was connected and fell silent is shown as disconnected', async (t) => {
  const device = await addDevice(hours(0))
  await world.send(device, heartbeat())
  t.like(await rowOf(device), { gateway_status: 'connected' })
  await tell(world, device, { heard: hours(25) })
  await mark()
  t.like(await rowOf(device), { trust_level: 'offline', gateway_status: 'disconnected' })
})

test.serial('only approved and trusted devices are marked, legacy ones too', async (t) => {
  const others = ['unhealthy', 'revoked', 'blocked'] as const
  const devices = await Promise.all(others.map((level) => addDevice(hours(48), ['approved', level])))
  const pending = await addDevice(undefined, [], hours(48))
  const legacy = { id: await makeLegacyDevice(world.owner, await world.addLenser()) }
  await world.owner.query(`UPDATE devices.registered_devices SET trust_level = 'approved' WHERE id = $1`, [legacy.id])
  await world.owner.query(
    `UPDATE devices.registered_devices SET approved_at = now() - interval '2 days' WHERE id = $1`,
    [legacy.id],
  )
  await mark()
  for (const [n, level] of others.entries()) t.like(await rowOf(devices[n] as Device), { trust_level: level })
  t.like(await rowOf(pending), { trust_level: 'pending' })
  t.like(await rowOf(legacy), { trust_level: 'offline', earlier_level: 'approved' })
})

test.serial('in bounded steps, by two at once, and past a device that a heartbeat is being applied to', async (t) => {
  const devices = await Promise.all(Array.from({ length: 8 }, () => addDevice(hours(25))))
  t.is(await mark(3), 3)
  const levels = await Promise.all(devices.map(rowOf))
  const busy = devices.find((_, n) => levels[n]?.trust_level === 'approved')
  const applying = await world.owner.connect()
  await applying.query('BEGIN')
  await applying.query('UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = $1', [busy?.id])
  const counts = await Promise.all([mark(), mark()])
  t.is(
    counts.reduce((sum, n) => sum + n, 0),
    4,
  )
  await applying.query('COMMIT')
  applying.release()
  t.is(await mark(), 0, 'it was heard meanwhile')
  t.like(await rowOf(busy as Device), { trust_level: 'approved' })
})
