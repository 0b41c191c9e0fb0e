import { randomUUID } from 'node:crypto'
import { deviceLevels, kinds } from '@lenserfight/schemas'
import test from 'ava'
import { lifecycle } from '../_bodies.ts'
import { createWorld, type Device, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const addDevice = async (levels?: Parameters<World['addDevice']>[1]) => world.addDevice(await world.addLenser(), levels)
const recordsOf = async (device: Device): Promise<{ event_kind: string; payload: Record<string, unknown> }[]> => {
  await world.owner.query('SELECT audit.fn_chain_link(1000)')
  const { rows } = await world.owner.query(
    `SELECT event_kind, payload FROM audit.hash_chains WHERE device_id = $1 AND event_kind <> 'trust_transition' ORDER BY seq`,
    [device.id],
  )
  return rows
}

test('AU-2: start, stop and refusal with its cause are in the chain, each with the daemon’s version (R7)', async (t) => {
  const device = await addDevice()
  const events = [
    { event: 'start', at: 1_790_000_000_000 },
    { event: 'stop', at: 1_790_000_001_000 },
    { event: 'refusal', at: 1_790_000_002_000, code: 'clock_skew' },
  ]
  for (const event of events) {
    t.deepEqual((await world.send(device, lifecycle(event))).result, { trust_level: 'approved' })
  }
  t.deepEqual(
    await recordsOf(device),
    events.map((event) => ({
      event_kind: 'lifecycle',
      payload: { ok: true, result: { trust_level: 'approved' }, lifecycle: { daemon_version: '0.1.0', ...event } },
    })),
  )
})

test('law 2: an event sent again, in one batch or later, has one result and one record', async (t) => {
  const device = await addDevice()
  const body = lifecycle({ event: 'start' })
  const outcomes = await world.apply('lifecycle', [await world.seal(device, body), await world.seal(device, body)])
  outcomes.push(await world.send(device, body))
  for (const { ok, result, op_id } of outcomes)
    t.deepEqual([ok, result, op_id], [true, { trust_level: 'approved' }, body.op_id])
  t.is((await recordsOf(device)).length, 1)
  t.is((await world.send(device, { ...body, event: 'stop' })).code, 'op_id_conflict')
})

test('every level that may say so is heard, and changed by nothing; what the others say is refused', async (t) => {
  const ways = { pending: [], approved: ['approved'], trusted: ['approved', 'trusted'] } as const
  for (const level of deviceLevels) {
    const device = await addDevice([
      ...(level in ways ? ways[level as keyof typeof ways] : (['approved', level] as const)),
    ])
    const { ok, code, result } = await world.send(device, lifecycle())
    const may = (kinds.lifecycle.states as readonly string[]).includes(level)
    t.deepEqual(
      [ok, code, result],
      may ? [true, undefined, { trust_level: level }] : [false, `device_${level}`, undefined],
    )
    const { trust_level } = await world.one<{ trust_level: string }>(
      'SELECT trust_level FROM devices.registered_devices WHERE id = $1',
      [device.id],
    )
    t.is(trust_level, level)
    // What is refused for good is on record as well: it says by whom and why.
    t.is((await recordsOf(device)).length, may || level === 'revoked' ? 1 : 0, level)
  }
})

test('an event without a verified claim leaves no record', async (t) => {
  const device = await addDevice()
  for (const arrival of [{ verdict: 'none' }, { verdict: 'iat_window' }, { door: 'ask' as const }]) {
    t.is((await world.send(device, lifecycle(), arrival)).code, 'claim_expired')
  }
  t.is((await world.send(device, lifecycle({ op_id: randomUUID() }))).code, 'malformed_body')
  t.deepEqual(await recordsOf(device), [])
})
