import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { heartbeat, runStart } from '../_bodies.ts'
import { createWorld, type Device, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

interface Row {
  trust_level: string
  last_heartbeat_at: Date | null
  daemon_version: string | null
  gateway_status: string
}
const rowOf = (device: Device): Promise<Row> =>
  world.one<Row>(
    `SELECT trust_level, last_heartbeat_at, daemon_version, gateway_status
       FROM devices.registered_devices WHERE id = $1`,
    [device.id],
  )
const recordsOf = async (device: Device): Promise<number> =>
  (
    await world.one<{ n: number }>(
      `SELECT count(*)::int AS n FROM audit.pending WHERE device_id = $1 AND event_kind = 'heartbeat'`,
      [device.id],
    )
  ).n
const addDevice = async (levels?: Parameters<World['addDevice']>[1]) => world.addDevice(await world.addLenser(), levels)

test('DH-2: a heartbeat updates last_heartbeat_at, daemon_version and gateway_status', async (t) => {
  const device = await addDevice()
  const stored = Date.now() - 1000
  const outcome = await world.send(device, heartbeat({ daemon_version: '1.2.3', gateway_status: 'degraded' }), {
    stored,
  })
  t.deepEqual(outcome.result, { trust_level: 'approved', key_number: 1, key_expires_at: null, runners: [] })
  t.is(outcome.lenser, device.lenser)
  t.deepEqual(await rowOf(device), {
    trust_level: 'approved',
    last_heartbeat_at: new Date(stored),
    daemon_version: '1.2.3',
    gateway_status: 'degraded',
  })
})

test('DH-1: a heartbeat without a verified claim changes nothing', async (t) => {
  const device = await addDevice()
  const texts = [
    await world.seal(device, heartbeat(), { verdict: 'none' }),
    await world.seal(device, heartbeat(), { verdict: 'nonce_replay' }),
    await world.seal(device, heartbeat(), { door: 'ask' }),
  ]
  t.deepEqual(
    (await world.apply('heartbeat', texts)).map(({ code }) => code),
    ['claim_expired', 'claim_expired', 'claim_expired'],
  )
  t.is((await rowOf(device)).last_heartbeat_at, null)
  t.is(await recordsOf(device), 0)
})

test('DH-1: bytes that are not those of the claim change nothing', async (t) => {
  const device = await addDevice()
  const text = await world.seal(device, heartbeat())
  const [outcome] = await world.apply('heartbeat', [text.replace('connected', 'degraded!')])
  t.is(outcome?.code, 'claim_expired')
  t.is((await rowOf(device)).last_heartbeat_at, null)
})

test('DH-5: the same heartbeat again gives the same result and leaves one record', async (t) => {
  const device = await addDevice()
  const text = await world.seal(device, heartbeat())
  const outcomes = [...(await world.apply('heartbeat', [text, text])), ...(await world.apply('heartbeat', [text]))]
  for (const { ok } of outcomes) t.true(ok)
  t.is(await recordsOf(device), 1)
})

test('law 2: a heartbeat that comes again after the device’s level changed has the result that it had', async (t) => {
  for (const level of ['unhealthy', 'revoked'] as const) {
    const device = await addDevice()
    const text = await world.seal(device, heartbeat())
    const [first] = await world.apply('heartbeat', [text])
    await world.setLevel(device, level)
    const before = await rowOf(device)
    t.deepEqual(await world.apply('heartbeat', [text]), [first as Outcome])
    t.deepEqual(await rowOf(device), before)
  }
})

test('of heartbeats in any order the one stored last wins', async (t) => {
  const device = await addDevice()
  const now = Date.now()
  const of = (daemon_version: string, stored: number) => world.seal(device, heartbeat({ daemon_version }), { stored })
  await world.apply('heartbeat', [await of('b', now - 1000), await of('c', now), await of('a', now - 2000)])
  t.is((await rowOf(device)).daemon_version, 'c')
  await world.apply('heartbeat', [await of('d', now - 500)])
  t.deepEqual(await rowOf(device), { ...(await rowOf(device)), daemon_version: 'c', last_heartbeat_at: new Date(now) })
  t.is(await recordsOf(device), 4)
})

test('a heartbeat brings an offline device back to what it was, audited', async (t) => {
  for (const earlier of ['approved', 'trusted'] as const) {
    const device = await addDevice(earlier === 'trusted' ? ['approved', 'trusted', 'offline'] : ['approved', 'offline'])
    const outcome = await world.send(device, heartbeat())
    t.deepEqual(outcome.result, { trust_level: earlier, key_number: 1, key_expires_at: null, runners: [] })
    t.is((await rowOf(device)).trust_level, earlier)
    const { payload } = await world.one<{ payload: object }>(
      'SELECT payload FROM audit.hash_chains WHERE device_id = $1 ORDER BY seq DESC LIMIT 1',
      [device.id],
    )
    t.deepEqual(payload, { from: 'offline', to: earlier, actor: 'server', reason: 'heartbeat' })
  }
})

test('an unhealthy device may send heartbeats and stays unhealthy; a revoked or blocked one is refused', async (t) => {
  const unhealthy = await addDevice(['approved', 'unhealthy'])
  t.like((await world.send(unhealthy, heartbeat())).result, { trust_level: 'unhealthy', key_number: 1 })
  for (const level of ['revoked', 'blocked'] as const) {
    const device = await addDevice(['approved', level])
    t.is((await world.send(device, heartbeat())).code, `device_${level}`)
    t.is((await rowOf(device)).last_heartbeat_at, null)
    t.is(await recordsOf(device), 0)
  }
})

test('outcomes keep the order of their envelopes, and one that cannot be applied leaves its neighbours alone', async (t) => {
  const [a, b] = [await addDevice(), await addDevice()]
  const texts = [
    await world.seal(b, heartbeat()),
    await world.seal(a, heartbeat(), { verdict: 'none' }),
    await world.seal(b, runStart()),
    await world.seal(a, heartbeat()),
  ]
  const outcomes = await world.apply('heartbeat', texts)
  t.deepEqual(
    outcomes.map(({ kid, ok, code }) => [kid, ok, code]),
    [
      [b.id, true, undefined],
      [a.id, false, 'claim_expired'],
      [b.id, false, 'kind_mismatch'],
      [a.id, true, undefined],
    ],
  )
  t.deepEqual(await world.apply('heartbeat', []), [])
})

const addRunners = (lenser: string, count: number): Promise<string[]> =>
  Promise.all(
    Array.from({ length: count }, (_, n) =>
      world.insert('execution.runners', { lenser_id: lenser, name: `runner ${n}` }),
    ),
  )
const beating = (...runners: string[]) =>
  heartbeat({ runners: runners.map((runner_id) => ({ runner_id, open_runs: 1 })) })
const heardAt = async (runner: string | undefined): Promise<Date | null> =>
  (
    await world.one<{ last_heartbeat_at: Date | null }>(
      'SELECT last_heartbeat_at FROM execution.runners WHERE id = $1',
      [runner],
    )
  ).last_heartbeat_at

test('RH-2: a heartbeat reports the account’s runners, each once; nobody else’s, and none that there is not', async (t) => {
  const [device, stranger] = [await addDevice(), await addDevice()]
  const [one, two, silent] = (await addRunners(device.lenser, 3)) as [string, string, string]
  const [foreign] = (await addRunners(stranger.lenser, 1)) as [string]
  const stored = Date.now() - 1000
  const text = await world.seal(device, beating(two, one, one, foreign, device.id), { stored })
  const [outcome] = await world.apply('heartbeat', [text])
  t.deepEqual(outcome?.result.runners, [one, two].sort())
  const { runners } = await world.one<{ runners: string[] }>(
    'SELECT runners FROM devices.heartbeats WHERE device_id = $1',
    [device.id],
  )
  t.deepEqual(runners, [one, two].sort())
  t.deepEqual([await heardAt(one), await heardAt(two)], [new Date(stored), new Date(stored)])
  t.deepEqual([await heardAt(silent), await heardAt(foreign)], [null, null])
  t.deepEqual(await world.apply('heartbeat', [text]), [outcome as Outcome], 'again, the same')
})

test('RH-2: of a runner the newest heartbeat counts, in whatever order they come and from whichever device', async (t) => {
  const lenser = await world.addLenser()
  const [a, b] = [await world.addDevice(lenser), await world.addDevice(lenser)]
  const [runner] = (await addRunners(lenser, 1)) as [string]
  const now = Date.now()
  await world.send(a, beating(runner), { stored: now - 1000 })
  await Promise.all([
    world.send(b, beating(runner), { stored: now }),
    world.send(a, beating(runner), { stored: now - 500 }),
    world.send(b, heartbeat(), { stored: now + 500 }),
  ])
  t.deepEqual(await heardAt(runner), new Date(now))
})

test('heartbeats are kept for an hour', async (t) => {
  const device = await addDevice()
  await world.owner.query(
    `INSERT INTO devices.heartbeats VALUES ($1, now() - interval '61 minutes', '\\x01', '{}', 'approved'), ($1, now() - interval '59 minutes', '\\x02', '{}', 'approved')`,
    [device.id],
  )
  await world.send(device, heartbeat())
  t.is(
    (
      await world.one<{ n: number }>('SELECT count(*)::int AS n FROM devices.heartbeats WHERE device_id = $1', [
        device.id,
      ])
    ).n,
    2,
  )
})

test('law 7: a heartbeat that waits for a revoke in flight is refused', async (t) => {
  const device = await addDevice()
  const other = await world.owner.connect()
  try {
    await other.query('BEGIN')
    await other.query(`UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`, [device.id])
    const waiting = world.send(device, heartbeat())
    await new Promise((resolve) => setTimeout(resolve, 50))
    await other.query('COMMIT')
    t.is((await waiting).code, 'device_revoked')
  } finally {
    other.release()
  }
})

test('of a device’s flood of heartbeats so many a second are kept; each is heard, and has its answer', async (t) => {
  const device = await world.addDevice(await world.addLenser())
  const second = Math.floor(Date.now() / 1000) * 1000 - 5000
  const seal = (n: number) => world.seal(device, heartbeat(), { stored: second + n })
  const texts = await Promise.all(Array.from({ length: 50 }, (_, n) => seal(n)))
  const outcomes = [
    ...(await world.apply('heartbeat', texts.slice(0, 5))),
    ...(await world.apply('heartbeat', texts.slice(5))),
    await world.send(device, heartbeat(), { stored: second + 1000 }),
  ]
  for (const { ok, result } of outcomes) {
    t.true(ok)
    t.deepEqual(result, outcomes[0]?.result)
  }
  t.deepEqual(
    (await world.apply('heartbeat', texts)).map(({ result }) => result),
    texts.map(() => outcomes[0]?.result),
  )
  const { rows } = await world.owner.query(
    `SELECT count(*)::int AS kept FROM devices.heartbeats WHERE device_id = $1
      GROUP BY date_trunc('second', stored_at) ORDER BY date_trunc('second', stored_at)`,
    [device.id],
  )
  t.deepEqual(rows, [{ kept: limits.heartbeatsPerSecond }, { kept: 1 }])
  const { last_heartbeat_at } = await world.one<{ last_heartbeat_at: Date }>(
    'SELECT last_heartbeat_at FROM devices.registered_devices WHERE id = $1',
    [device.id],
  )
  t.is(last_heartbeat_at.getTime(), second + 1000)
})
