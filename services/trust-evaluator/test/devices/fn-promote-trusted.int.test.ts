import type { DeviceLevel } from '@lenserfight/schemas'
import test from 'ava'
import { heartbeat } from '../_bodies.ts'
import { createWorld, type Device, type World } from '../_world.ts'
import { attest, days, type History, hours, lately, tell, withinOneDay, worthy } from './_history.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())
test.beforeEach(withinOneDay)

const addDevice = async (history: History, levels: readonly DeviceLevel[] = ['approved']): Promise<Device> => {
  const device = await world.addDevice(await world.addLenser(), levels)
  await tell(world, device, history)
  return device
}
const promote = async (limit = 1000): Promise<number> =>
  (await world.evaluator.query('SELECT devices.fn_promote_trusted($1) AS n', [limit])).rows[0].n
const levelOf = async (device: Device): Promise<string> =>
  (
    await world.one<{ trust_level: string }>('SELECT trust_level FROM devices.registered_devices WHERE id = $1', [
      device.id,
    ])
  ).trust_level

test.serial(
  'trusted: heartbeats on seven days of thirty, the last within a day, and a verified attestation',
  async (t) => {
    const cases: [string, History, string][] = [
      ['all of it', worthy, 'trusted'],
      ['seven days anywhere in the window', { ...worthy, on: [0, 3, 9, 14, 20, 26, 29] }, 'trusted'],
      ['one day short', { ...worthy, on: lately(6) }, 'approved'],
      ['one of the days is out of the window', { ...worthy, on: [0, 3, 9, 14, 20, 26, 30] }, 'approved'],
      ['not heard for a day', { ...worthy, heard: hours(25) }, 'approved'],
      ['heard just within the day', { ...worthy, heard: hours(23.9) }, 'trusted'],
      ['never attested', { on: lately(7), heard: hours(1) }, 'approved'],
      ['attested out of the window', { ...worthy, attested: days(30.5) }, 'approved'],
      ['attested early in the window', { ...worthy, attested: days(28.5) }, 'trusted'],
    ]
    const devices: Device[] = []
    for (const [, history] of cases) devices.push(await addDevice(history))
    t.is(await promote(), cases.filter(([, , level]) => level === 'trusted').length)
    for (const [n, [title, , level]] of cases.entries()) t.is(await levelOf(devices[n] as Device), level, title)
    t.is(await promote(), 0, 'twice is once')
  },
)

test.serial('AU-1: a promotion is the server’s, with one chain entry', async (t) => {
  const device = await addDevice(worthy)
  await promote()
  const { rows } = await world.owner.query(
    `SELECT payload FROM audit.hash_chains WHERE device_id = $1 AND payload ->> 'to' = 'trusted'`,
    [device.id],
  )
  const reason = 'heartbeats and a verified attestation'
  t.deepEqual(rows, [{ payload: { from: 'approved', to: 'trusted', actor: 'server', reason } }])
})

test.serial('an attestation that did not verify, or that a compromise concerns, earns nothing', async (t) => {
  const [unverified, compromised, before] = [
    await addDevice({ on: lately(7), heard: hours(1) }),
    await addDevice(worthy),
    await addDevice({ ...worthy, attested: days(3) }),
  ]
  const run = await attest(world, compromised, hours(3))
  // The applier stores none that is unverified: another’s row, without that flag.
  await world.owner.query(
    `WITH run AS (
       INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
       SELECT $2, $3, uuidv7(), true, command_hash, inputs, now() FROM execution.runs WHERE id = $1 RETURNING id
     )
     INSERT INTO execution.attestations
     SELECT (jsonb_populate_record(a, jsonb_build_object('id', uuidv7(), 'run_id', run.id, 'device_id', $3::uuid,
              'lenser_id', $2::uuid, 'gateway_verified', false))).*
       FROM execution.attestations a, run WHERE a.run_id = $1`,
    [run, unverified.lenser, unverified.id],
  )
  for (const { id } of [compromised, before]) {
    await world.owner.query(
      `INSERT INTO devices.compromises (device_id, kind, key_number, since, reason)
       VALUES ($1, 'fork', 1, now() - interval '1 day', 'identity_forked')`,
      [id],
    )
  }
  await promote()
  t.is(await levelOf(unverified), 'approved')
  t.is(await levelOf(compromised), 'approved')
  t.is(await levelOf(before), 'trusted', 'what it attested before stands')
})

test.serial('only an approved device is promoted', async (t) => {
  const others = ['offline', 'unhealthy', 'revoked', 'blocked'] as const
  for (const level of others) {
    const device = await addDevice(worthy)
    await world.setLevel(device, level)
    await promote()
    t.is(await levelOf(device), level)
  }
})

test.serial('a trusted device that no longer earns it keeps it', async (t) => {
  const device = await addDevice({ on: [], heard: hours(1) }, ['approved', 'trusted'])
  await promote()
  t.is(await levelOf(device), 'trusted')
})

test.serial('in bounded steps, by two at once: each device once, and one that is in use the next time', async (t) => {
  const devices: Device[] = []
  for (let n = 0; n < 9; n += 1) devices.push(await addDevice(worthy))
  t.is(await promote(2), 2)
  const inUse = await world.owner.connect()
  await inUse.query('BEGIN')
  const [held] = (await Promise.all(devices.map(async (device) => [device, await levelOf(device)] as const)))
    .filter(([, level]) => level === 'approved')
    .map(([device]) => device)
  await inUse.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [held?.id])
  const counts = await Promise.all([promote(), promote(), promote(3)])
  t.is(
    counts.reduce((sum, n) => sum + n, 0),
    6,
  )
  await inUse.query('COMMIT')
  inUse.release()
  t.is(await promote(), 1)
  for (const device of devices) t.is(await levelOf(device), 'trusted')
  const { n } = await world.one<{ n: number }>(
    `SELECT count(*)::int AS n FROM audit.hash_chains WHERE device_id = ANY ($1) AND payload ->> 'to' = 'trusted'`,
    [devices.map(({ id }) => id)],
  )
  t.is(n, 9)
})

const daysOf = async (device: Device): Promise<number[]> => {
  const { rows } = await world.owner.query(
    `SELECT (now() AT TIME ZONE 'UTC')::date - day AS ago FROM devices.heartbeat_days WHERE device_id = $1 ORDER BY 1`,
    [device.id],
  )
  return rows.map(({ ago }) => ago)
}

test.serial('a heartbeat notes its day once, whatever comes again, and lets go of days past the window', async (t) => {
  const device = await addDevice({ on: [3, 29, 30, 40], heard: days(3) })
  const text = await world.seal(device, heartbeat())
  await world.apply('heartbeat', [text, await world.seal(device, heartbeat())])
  await world.apply('heartbeat', [text])
  t.deepEqual(await daysOf(device), [0, 3, 29])
})

test.serial('heartbeats of an unhealthy device earn nothing; those of an offline one do', async (t) => {
  const [unhealthy, offline] = [await addDevice({}), await addDevice({})]
  await world.setLevel(unhealthy, 'unhealthy')
  await world.setLevel(offline, 'offline')
  for (const device of [unhealthy, offline]) t.true((await world.send(device, heartbeat())).ok)
  t.deepEqual(await daysOf(unhealthy), [])
  t.deepEqual(await daysOf(offline), [0])
})
