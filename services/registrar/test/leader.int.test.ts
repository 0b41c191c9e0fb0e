import { randomUUID } from 'node:crypto'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { codeOf, type Device, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

interface Lease {
  granted: boolean
  holder: string | null
  fence: number
  expires_at: number | null
  retry_after: number | null
}
const ask = (device: Device, seconds: number = limits.leaderSeconds) =>
  world().ask(device, 'leader', { lease_kind: 'sync_flush', seconds })
const lead = async (device: Device, seconds?: number) => resultOf(await ask(device, seconds)) as unknown as Lease

/** An account and so many working devices of it, the oldest first. */
const account = async (count: number): Promise<{ session: Session; devices: Device[] }> => {
  const session = await world().newSession()
  const devices: Device[] = []
  for (let n = 0; n < count; n += 1) devices.push(await world().newDevice(session))
  return { session, devices }
}
const at = (devices: readonly Device[], index: number): Device => devices[index] as Device

/** Lets so many seconds pass for an account's lease and those in line. */
const pass = async (session: Session, seconds: number): Promise<void> => {
  await world().query(
    `UPDATE devices.peer_leases SET acquired_at = acquired_at - $2::float8 * interval '1 s',
            expires_at = expires_at - $2::float8 * interval '1 s' WHERE lenser_id = $1`,
    [session.lenser, seconds],
  )
  await world().query(
    `UPDATE devices.peer_candidates SET waits_since = waits_since - $2::float8 * interval '1 s',
            wanted_until = wanted_until - $2::float8 * interval '1 s' WHERE lenser_id = $1`,
    [session.lenser, seconds],
  )
}
/** Of the lease alone so many seconds pass: since it was taken, and where it ends, until then; those in line stay where they are. */
const age = (session: Session, { by, ends }: { by: number; ends: boolean }) =>
  world().query(
    `UPDATE devices.peer_leases SET acquired_at = acquired_at - $2::float8 * interval '1 s',
            expires_at = expires_at - CASE WHEN $3 THEN $2::float8 * interval '1 s' ELSE '0' END WHERE lenser_id = $1`,
    [session.lenser, by, ends],
  )
const setLevel = (device: Device, level: string) =>
  world().query(`UPDATE devices.registered_devices SET trust_level = $2, trust_actor = 'server' WHERE id = $1`, [
    device.kid,
    level,
  ])
const turn = 2 * limits.leaderSeconds
/** Whether, of two that go on asking, the one has the lease next and never the other. */
const comesNext = async (session: Session, one: Device, other: Device): Promise<boolean> => {
  for (let passed = 0; passed <= turn; passed += 5) {
    await pass(session, 5)
    if ((await lead(other)).granted) return false
    if ((await lead(one)).granted) return true
  }
  return false
}

test('leader: a free lease goes to whoever asks; another is told who has it and when to ask again', async (t) => {
  const { devices } = await account(2)
  const [one, two] = [at(devices, 0), at(devices, 1)]
  const before = Date.now()
  const given = await lead(one)
  t.like(given, { granted: true, holder: one.kid, fence: 1, retry_after: null })
  t.true(Math.abs((given.expires_at as number) - before - limits.leaderSeconds * 1000) < 60_000)
  const told = await lead(two)
  t.like(told, { granted: false, holder: one.kid, fence: 1, expires_at: given.expires_at })
  t.true((told.retry_after as number) >= 1 && (told.retry_after as number) <= 5)
})

test('leader: of eight that ask at once one leads, again and again, and each change of hands has a higher fence', async (t) => {
  const { session, devices } = await account(8)
  let fence = 0
  for (let round = 0; round < 5; round += 1) {
    const told = await Promise.all(devices.map((device) => lead(device)))
    const leaders = new Set(told.filter(({ granted }) => granted).map(({ holder }) => holder))
    t.is(leaders.size, 1)
    t.deepEqual(new Set(told.filter(({ holder }) => holder !== null).map(({ holder }) => holder)), leaders)
    const now = Math.max(...told.map((lease) => lease.fence))
    t.is(now, fence + 1)
    fence = now
    await pass(session, limits.leaderSeconds + 11)
  }
})

test('leader: among those that wait, the oldest trusted device comes first, else the oldest approved; offline keeps its level', async (t) => {
  const { session, devices } = await account(4)
  const [old, trusted, offline, late] = devices as [Device, Device, Device, Device]
  await setLevel(offline, 'trusted')
  await setLevel(offline, 'offline')
  await setLevel(trusted, 'trusted')
  await lead(late)
  for (const device of [old, offline, trusted]) t.false((await lead(device)).granted)
  // `late` dies: it never gives the lease back.
  await age(session, { by: limits.leaderSeconds + 1, ends: true })
  t.like(await lead(old), { granted: false, holder: null, expires_at: null, fence: 1, retry_after: 1 })
  t.false((await lead(offline)).granted)
  t.like(await lead(trusted), { granted: true, holder: trusted.kid, fence: 2 })
  await lead(trusted, 0)
  t.false((await lead(old)).granted)
  t.like(await lead(offline), { granted: true, holder: offline.kid, fence: 3 })
  await lead(offline, 0)
  t.like(await lead(old), { granted: true, holder: old.kid, fence: 4 })
})

test('leader: one before others that asked long ago and came back no more holds up nobody', async (t) => {
  const { session, devices } = await account(3)
  const [first, second, third] = devices as [Device, Device, Device]
  await lead(third)
  await lead(first)
  await pass(session, limits.leaderSeconds + 1)
  t.true((await lead(second)).granted)
  // Nor does it end the turn of who leads.
  await lead(first)
  for (let passed = 0; passed < turn * 2; passed += 15) {
    await pass(session, 15)
    t.like(await lead(second), { granted: true, fence: 2 })
  }
})

test('leader: whoever leads goes on leading under its fence; one whose lease lapsed has a new fence', async (t) => {
  const { session, devices } = await account(1)
  const one = at(devices, 0)
  const first = await lead(one)
  await pass(session, 20)
  const second = await lead(one)
  t.like(second, { granted: true, fence: 1 })
  t.true((second.expires_at as number) >= (first.expires_at as number) - 20_000 + 1)
  // Less than it has takes nothing from it.
  t.is((await lead(one, 1)).expires_at, second.expires_at)
  await pass(session, turn * 3)
  t.like(await lead(one), { granted: true, fence: 2 })
})

test('leader: nobody leads for more than two leases while another waits, who then comes before it', async (t) => {
  const { session, devices } = await account(2)
  const [first, second] = devices as [Device, Device]
  await lead(first)
  for (let round = 0; round < 4; round += 1) {
    await pass(session, 5)
    t.false((await lead(second)).granted)
    t.like(await lead(first), { granted: true, fence: 1 })
  }
  await age(session, { by: turn, ends: false })
  t.like(await lead(first), { granted: false, holder: first.kid, fence: 1 })
  t.true(await comesNext(session, second, first))
  t.like(await lead(first), { granted: false, holder: second.kid, fence: 2 })
  // Nobody else waits: it goes on as long as it likes.
  const { session: alone, devices: own } = await account(1)
  await lead(at(own, 0))
  for (let passed = 0; passed < turn * 2; passed += 15) {
    await pass(alone, 15)
    t.like(await lead(at(own, 0)), { granted: true, fence: 1 })
  }
})

test('leader: whoever had a whole turn stands behind one that asked only now, though it comes first by precedence', async (t) => {
  const { session, devices } = await account(2)
  const [first, second] = devices as [Device, Device]
  await lead(first)
  await age(session, { by: turn, ends: false })
  t.like(await lead(first), { granted: true, fence: 1 }, 'nobody else waits')
  t.false((await lead(second)).granted)
  t.like(await lead(first), { granted: false, holder: first.kid, fence: 1 })
  await age(session, { by: limits.leaderSeconds + 1, ends: true })
  t.like(await lead(first), { granted: false, holder: null, fence: 1 })
  t.like(await lead(second), { granted: true, holder: second.kid, fence: 2 })
})

test('leader: of any number that ask all the time, each leads in its turn', async (t) => {
  const { session, devices } = await account(3)
  const led = new Set<string>()
  // Each turn is at most three leases long, and a device waits for all others'.
  for (let passed = 0; passed < devices.length * limits.leaderSeconds * 4; passed += 5) {
    for (const device of devices) if ((await lead(device)).granted) led.add(device.kid)
    await pass(session, 5)
  }
  t.is(led.size, devices.length)
})

test('leader: 0 seconds give it back at once, and take nothing from whoever has it', async (t) => {
  const { devices } = await account(2)
  const [one, two] = devices as [Device, Device]
  await lead(one)
  t.like(await lead(two, 0), { granted: false, holder: one.kid })
  t.like(await lead(one), { granted: true, fence: 1 })
  t.like(await lead(one, 0), { granted: false, holder: null, expires_at: null })
  t.like(await lead(two), { granted: true, holder: two.kid, fence: 2 })
  t.deepEqual(
    await world().query('SELECT FROM devices.peer_candidates WHERE device_id = ANY ($1)', [[one.kid, two.kid]]),
    [],
  )
})

test('leader: a device that may not work does not lead, and its lease is free from then on', async (t) => {
  const { session, devices } = await account(3)
  const [one, two, three] = devices as [Device, Device, Device]
  await setLevel(three, 'trusted')
  await lead(one)
  t.false((await lead(three)).granted)
  resultOf(await world().ask(session, 'suspend', operation({ device_id: three.kid })))
  t.is(codeOf(await ask(three)), 'device_unhealthy')
  await setLevel(one, 'unhealthy')
  t.like(await lead(two), { granted: true, holder: two.kid, fence: 2 })
  const pending = await world().register(session)
  t.is(codeOf(await ask(pending)), 'device_pending')
  // Law 7: suspended between its claim and what it asks for.
  const claimed = sign(two, 'leader', { lease_kind: 'sync_flush', seconds: limits.leaderSeconds })
  t.is(await world().claim(claimed), 'ok')
  await setLevel(two, 'unhealthy')
  t.is(codeOf(await world().store.apply('leader', claimed.text)), 'device_unhealthy')
})

test('leader: the database’s clock decides, whatever the clock of who asks says', async (t) => {
  const { session, devices } = await account(2)
  const [one, two] = devices as [Device, Device]
  const skewed = async (device: Device, by: number) => {
    const signed = sign(
      device,
      'leader',
      { lease_kind: 'sync_flush', seconds: limits.leaderSeconds },
      Math.floor(Date.now() / 1000) + by,
    )
    const verdict = await world().claim(signed)
    return verdict === 'ok'
      ? world().store.apply('leader', signed.text)
      : { ok: false as const, code: verdict as never }
  }
  const given = resultOf(await skewed(one, 250)) as unknown as Lease
  t.true((given.expires_at as number) < Date.now() + limits.leaderSeconds * 1000 + 60_000)
  t.false((await lead(two)).granted)
  await pass(session, limits.leaderSeconds + 1)
  t.true((resultOf(await skewed(two, -250)) as unknown as Lease).granted)
  t.is(codeOf(await skewed(one, 400)), 'iat_window')
})

test('leader: what was signed is what is done: no other kind, no unclaimed request, no longer lease than there is', async (t) => {
  const { session, devices } = await account(1)
  const one = at(devices, 0)
  const apply = async (text: string) => codeOf(await world().store.apply('leader', text))
  t.is(await apply(sign(one, 'leader', { lease_kind: 'sync_flush', seconds: 30 }).text), 'claim_expired')
  const status = sign(one, 'status', {})
  await world().claim(status)
  t.is(await apply(status.text), 'kind_mismatch')
  const long = await lead(one, 1_000_000_000)
  t.true((long.expires_at as number) < Date.now() + limits.leaderSeconds * 1000 + 60_000)
  t.is(codeOf(await world().ask(session, 'leader', { lease_kind: 'sync_flush', seconds: 30 })), 'unsupported_kind')
})

test('leader: accounts lead apart, and a change of hands is on record, once', async (t) => {
  const [mine, theirs] = [await account(2), await account(1)]
  const [one, two] = mine.devices as [Device, Device]
  await lead(one)
  await lead(one)
  t.like(await lead(at(theirs.devices, 0)), { granted: true, fence: 1 })
  await lead(one, 0)
  await lead(two)
  await lead(two, 0)
  t.like(await lead(two), { granted: true, fence: 3 })
  const records = await world().query<{ device_id: string; payload: object }>(
    `SELECT device_id, payload FROM audit.pending WHERE lenser_id = $1 AND event_kind = 'leader' ORDER BY id`,
    [mine.session.lenser],
  )
  t.deepEqual(records, [
    { device_id: one.kid, payload: { lease_kind: 'sync_flush', fence: 1, from: null } },
    { device_id: two.kid, payload: { lease_kind: 'sync_flush', fence: 2, from: one.kid } },
  ])
})

test('leader: whatever is asked in whatever order, at most one leads and no fence comes twice for two', async (t) => {
  const { session, devices } = await account(3)
  const steps = fc.array(
    fc.record({
      device: fc.nat(2),
      seconds: fc.constantFrom(0, 1, 10, limits.leaderSeconds),
      passed: fc.constantFrom(0, 0, 1, 6, 12, 31),
    }),
    { minLength: 5, maxLength: 15 },
  )
  await t.notThrowsAsync(() =>
    fc.assert(
      fc.asyncProperty(steps, async (script) => {
        await world().query('DELETE FROM devices.peer_leases WHERE lenser_id = $1', [session.lenser])
        await world().query('DELETE FROM devices.peer_candidates WHERE lenser_id = $1', [session.lenser])
        const holders = new Map<number, string>()
        let [held, until, skipped] = ['', 0, 0]
        const clock = () => skipped + performance.now() / 1000
        for (const { device, seconds, passed } of script) {
          await pass(session, passed)
          skipped += passed
          const asked = clock()
          const { kid } = at(devices, device)
          const told = await lead(at(devices, device), seconds)
          if (told.granted) {
            // What was given ends no sooner than so long after it was asked for.
            if (held !== kid && until > clock()) throw new Error(`${kid} leads beside ${held}`)
            if ((holders.get(told.fence) ?? kid) !== kid) throw new Error('a fence came twice')
            if (Math.max(...holders.keys(), 0) > told.fence) throw new Error('a fence went back')
            holders.set(told.fence, kid)
            until = Math.max(held === kid ? until : 0, asked + seconds)
            held = kid
          } else if (held === kid && seconds === 0) until = 0
        }
      }),
      { numRuns: 12 },
    ),
  )
})

test('leader: a device of nobody’s leads nothing', async (t) => {
  const { devices } = await account(1)
  const stranger = { ...at(devices, 0), kid: randomUUID() }
  t.is(codeOf(await ask(stranger)), 'unknown_session')
})
