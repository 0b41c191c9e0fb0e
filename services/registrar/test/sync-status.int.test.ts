import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { codeOf, type Device, resultOf, type Session, useWorld } from './_world.ts'

const world = useWorld(test)

interface Status {
  epoch: number
  seq: number
  conflicts: number
  unsequenced: number
  leader: { device_id: string; fence: number; expires_at: number } | null
  devices: (Record<string, unknown> & { device_id: string })[]
  more: boolean
}
const status = async (session: Session) => resultOf(await world().ask(session, 'sync_status', {})) as unknown as Status
const watermark = (device: Device, session: Session, className: string, prev: number, upto: number) =>
  world().query(
    `INSERT INTO devices.sync_watermarks (device_id, class, lenser_id, epoch, prev, watermark) VALUES ($1, $2, $3, 1, $4, $5)`,
    [device.kid, className, session.lenser, prev, upto],
  )

test('sync_status: an account that never synchronised has nothing to tell', async (t) => {
  const session = await world().newSession()
  t.deepEqual(await status(session), {
    epoch: 1,
    seq: 0,
    conflicts: 0,
    unsequenced: 0,
    leader: null,
    devices: [],
    more: false,
  })
})

test('sync_status: each device with how far it has come and what it last said, the oldest first', async (t) => {
  const session = await world().newSession()
  const devices = [await world().newDevice(session), await world().newDevice(session), await world().newDevice(session)]
  const [one, two, gone] = devices as [Device, Device, Device]
  await world().query('UPDATE devices.registered_devices SET trust_level = $2, trust_actor = $3 WHERE id = $1', [
    ...[gone.kid, 'revoked', 'owner'],
  ])
  await world().query('INSERT INTO devices.sync_heads (lenser_id, seq) VALUES ($1, 40)', [session.lenser])
  await watermark(one, session, 'agent_config', 30, 38)
  await watermark(one, session, 'lens_draft', 30, 40)
  // Of the global feed, which has numbers of its own.
  await world().query(
    `INSERT INTO devices.sync_watermarks (device_id, class, lenser_id, epoch, prev, watermark)
     VALUES ($1, 'ai_catalog', '00000000-0000-0000-0000-000000000000', 1, 0, 2)`,
    [one.kid],
  )
  await world().query(
    `INSERT INTO devices.sync_reports (device_id, pending, set_aside, last_code, diverged)
     VALUES ($1, 3, 1, 'object_too_large', '{lens_draft}')`,
    [one.kid],
  )
  await world().query(
    `INSERT INTO devices.sync_pending (lenser_id, class, object) SELECT $1, 'policy', 'policy' FROM generate_series(1, 2)`,
    [session.lenser],
  )
  const told = await status(session)
  t.like(told, { seq: 40, unsequenced: 2, leader: null, more: false })
  t.deepEqual(
    told.devices.map(({ device_id }) => device_id),
    [one.kid, two.kid],
  )
  t.like(told.devices[0], {
    trust_level: 'approved',
    classes: { agent_config: 38, lens_draft: 40, ai_catalog: 2 },
    behind: 2,
    pending: 3,
    set_aside: 1,
    last_code: 'object_too_large',
    diverged: ['lens_draft'],
  })
  t.true(Math.abs((told.devices[0]?.reported_at as number) - Date.now()) < 60_000)
  t.true(Math.abs((told.devices[0]?.pulled_at as number) - Date.now()) < 60_000)
  t.like(told.devices[1], { classes: {}, behind: 40, pending: null, reported_at: null, pulled_at: null })
  const stranger = await status(await world().newSession())
  t.like(stranger, { seq: 0, unsequenced: 0, devices: [] })
})

test('sync_status: who leads, while it does', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  resultOf(await world().ask(device, 'leader', { lease_kind: 'sync_flush', seconds: limits.leaderSeconds }))
  const { leader } = await status(session)
  t.like(leader, { device_id: device.kid, fence: 1 })
  await world().query('UPDATE devices.peer_leases SET expires_at = now() WHERE lenser_id = $1', [session.lenser])
  t.is((await status(session)).leader, null)
})

test('sync_status: however many devices there are and whatever they report, it fits into an answer', async (t) => {
  const session = await world().newSession()
  await world().query(
    `WITH made AS (
       INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
       SELECT $1, 'device ' || n, 'server', 'linux', sha256(n::text::bytea) FROM generate_series(1, $2::int) n RETURNING id
     )
     INSERT INTO devices.sync_reports (device_id, pending, set_aside, diverged)
     SELECT id, 0, 0, array_fill(repeat('x', 64), ARRAY[32]) FROM made`,
    [session.lenser, limits.devicesPerLenser],
  )
  const told = await status(session)
  t.true(told.more)
  t.true(told.devices.length > 50)
  t.true(JSON.stringify(told).length < 200 * 1024)
})

test('sync_status, sync_conflicts: an account’s own sessions ask, and no device', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  t.is(codeOf(await world().ask(device, 'sync_status', {})), 'unsupported_kind')
  t.is(codeOf(await world().ask(device, 'sync_conflicts', {})), 'unsupported_kind')
})
