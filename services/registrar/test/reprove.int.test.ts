import { setTimeout as sleep } from 'node:timers/promises'
import { encodeKey } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { codeOf, type Device, newKey, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)
const beat = (device: Device) => sign(device, 'heartbeat', { daemon_version: '0.1.0', gateway_status: 'x' })

const setUp = async () => {
  const session = await world().newSession()
  return { session, device: await world().newDevice(session) }
}
const setLevel = async (device: Device, level: string, reason: string | null = null): Promise<void> => {
  await world().query(
    `UPDATE devices.registered_devices SET trust_level = $2, trust_reason = $3,
            trust_actor = CASE $2 WHEN 'blocked' THEN 'platform' WHEN 'revoked' THEN 'owner' ELSE 'server' END WHERE id = $1`,
    [device.kid, level, reason],
  )
}
const reprove = (session: Session, device: Device, to = newKey()) =>
  world().ask(session, 'reprove', world().reproof(device, to))
const require = (session: Session, device: Pick<Device, 'kid'>, within_seconds = 0) =>
  world().ask(session, 'rotation_require', operation({ device_id: device.kid, within_seconds }))

test('reprove puts another key in force, and the one before is dead at once, whatever is under way', async (t) => {
  const { session, device } = await setUp()
  const [stored, to] = [BigInt(Date.now()) * 1_000_000n, newKey()]
  const underWay = beat(device)
  const result = resultOf(await reprove(session, device, to))
  t.like(result, { device_id: device.kid, key_number: 2, public_key: encodeKey(to.publicKey), trust_level: 'approved' })
  t.not(result.fingerprint, result.former_fingerprint)
  t.is(await world().claimIngress(underWay, stored), 'key_changed', 'stored before, and yet')
  t.is(await world().claimIngress(beat(device)), 'key_changed')
  t.is(await world().claimIngress(beat({ ...device, ...to, kid: device.kid })), 'ok')
  const [first, second] = await world().keysOf(device)
  t.truthy(first?.until)
  t.true((first?.until as Date) <= new Date())
  t.like(second, { number: 2, how: 'reproved', until: null })
})

test('reprove brings an unhealthy device back to what it was, audited, and leaves the others where they are', async (t) => {
  for (const [before, level, after] of [
    ['approved', 'unhealthy', 'approved'],
    ['trusted', 'unhealthy', 'trusted'],
    ['approved', 'offline', 'offline'],
    ['approved', 'trusted', 'trusted'],
  ] as const) {
    const { session, device } = await setUp()
    if (before === 'trusted') await setLevel(device, 'trusted')
    await setLevel(device, level, level === 'unhealthy' ? 'identity_forked' : null)
    t.is(resultOf(await reprove(session, device)).trust_level, after, `${before}, then ${level}`)
    t.is(await world().levelOf(device), after)
    const [last] = await world().query<{ actor: string; reason: string; to: string }>(
      `SELECT trust_actor AS actor, trust_reason AS reason, trust_level AS to FROM devices.registered_devices WHERE id = $1`,
      [device.kid],
    )
    if (level === 'unhealthy') t.deepEqual(last, { actor: 'owner', reason: 'reproved by its owner', to: after })
    const entries = await world().query(
      `SELECT FROM audit.hash_chains WHERE device_id = $1 AND event_kind = 'trust_transition'`,
      [device.kid],
    )
    // Registered, approved, whatever the levels before were, and the return.
    const expected = 3 + Number(before === 'trusted') + Number(level === 'unhealthy')
    t.is(entries.length, expected, `${before}, then ${level}`)
  }
})

test('device_pending, device_revoked, device_blocked: nobody vouches for those, nor requires a rotation of them', async (t) => {
  const session = await world().newSession()
  const pending = await world().register(session)
  t.is(codeOf(await reprove(session, pending)), 'device_pending')
  t.is(codeOf(await require(session, pending)), 'device_pending')
  for (const level of ['revoked', 'blocked'] as const) {
    const { session, device } = await setUp()
    await setLevel(device, level)
    t.is(codeOf(await reprove(session, device)), `device_${level}`)
    t.is(codeOf(await require(session, device)), `device_${level}`)
    t.is((await world().keysOf(device)).length, 1)
  }
})

test('not_owner, device_not_found: an account vouches for its own devices alone', async (t) => {
  const [mine, theirs] = [await setUp(), await setUp()]
  t.is(codeOf(await reprove(theirs.session, mine.device)), 'not_owner')
  t.is(codeOf(await require(theirs.session, mine.device)), 'not_owner')
  const nobody = { ...mine.device, kid: '99999999-9999-4999-8999-999999999999' }
  t.is(codeOf(await reprove(mine.session, nobody)), 'device_not_found')
  t.is(codeOf(await require(mine.session, nobody)), 'device_not_found')
  t.is((await world().keysOf(mine.device)).length, 1)
  t.is(await world().claimIngress(beat(mine.device)), 'ok')
})

test('key_reused: an owner cannot bring back a key, of this device or another', async (t) => {
  const [mine, theirs] = [await setUp(), await setUp()]
  const to = newKey()
  resultOf(await reprove(mine.session, mine.device, to))
  t.is(codeOf(await reprove(mine.session, mine.device, mine.device)), 'key_reused')
  t.is(codeOf(await reprove(mine.session, mine.device, to)), 'key_reused')
  t.is(codeOf(await reprove(theirs.session, theirs.device, mine.device)), 'key_reused')
})

test('of two devices that take one key at once, one gets it', async (t) => {
  const [mine, theirs, to] = [await setUp(), await setUp(), newKey()]
  const outcomes = await Promise.all([
    reprove(mine.session, mine.device, to),
    reprove(theirs.session, theirs.device, to),
  ])
  t.deepEqual(outcomes.map(codeOf).toSorted(), ['key_reused', 'ok'])
})

test('law 2: reprove asked again gives its result again, with one key and one record', async (t) => {
  const { session, device } = await setUp()
  const body = world().reproof(device, newKey())
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => world().ask(session, 'reprove', body)))
  t.is(new Set(outcomes.map((outcome) => JSON.stringify(resultOf(outcome)))).size, 1)
  t.is((await world().keysOf(device)).length, 2)
  const records = await world().query<{ payload: { result: object } }>(
    "SELECT payload FROM audit.pending WHERE device_id = $1 AND event_kind = 'reprove'",
    [device.kid],
  )
  t.deepEqual(
    records.map(({ payload }) => payload.result),
    [resultOf(outcomes[0] as never)],
  )
})

// Alone: what the others do would stand in the same line.
test.serial(
  'law 7: a reproof waits for a claim in flight, and when it has returned the old key claims nothing',
  async (t) => {
    const { session, device } = await setUp()
    const claim = await world().owner.connect()
    await claim.query('BEGIN')
    await claim.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
    let returned = false
    const reproof = reprove(session, device).finally(() => {
      returned = true
    })
    // Until it stands in line for the table: whoever comes after that waits for it.
    await world().untilWaitedFor(claim)
    t.false(returned)
    const late = world().claimIngress(beat(device))
    await sleep(100)
    await claim.query('COMMIT')
    claim.release()
    t.is(codeOf(await reproof), 'ok')
    t.is(await late, 'key_changed')
  },
)

test('rotation_require brings the end of a key forward and never back; status and list say so', async (t) => {
  const { session, device } = await setUp()
  const soon = resultOf(await require(session, device, 900))
  const inSeconds = (result: Record<string, unknown>) => (result.key_expires_at as number) - Date.now() / 1000
  t.true(Math.abs(inSeconds(soon) - 900) < 60)
  t.like(soon, { device_id: device.kid, key_number: 1, trust_level: 'approved' })
  const later = resultOf(await require(session, device, limits.rotationRequireSeconds))
  t.is(later.key_expires_at, soon.key_expires_at)
  const status = resultOf(await world().ask(device, 'status', {}))
  t.like(status, { key_number: 1, key_expires_at: soon.key_expires_at as number })
  const { devices } = resultOf(await world().ask(session, 'list', {})) as { devices: object[] }
  t.like(devices[0], { key_number: 1, key_expires_at: soon.key_expires_at as number })
  const records = await world().query<{ payload: { result: object } }>(
    "SELECT payload FROM audit.pending WHERE device_id = $1 AND event_kind = 'rotation_require' ORDER BY id",
    [device.kid],
  )
  t.deepEqual(
    records.map(({ payload }) => payload.result),
    [soon, later],
  )
  t.like(soon, { fingerprint: status.fingerprint as string })
})

test('key_expired: a rotation required at once leaves the device what an unhealthy one has, until another key is in force', async (t) => {
  const { session, device } = await setUp()
  resultOf(await require(session, device, 0))
  const attest = (signer: Device) => world().claimIngress(sign(signer, 'attestation', operation()))
  await sleep(5)
  t.is(await attest(device), 'key_expired')
  t.is(await world().claimIngress(beat(device)), 'ok')
  const to = newKey()
  resultOf(await reprove(session, device, to))
  t.is(await attest({ ...device, ...to, kid: device.kid }), 'ok')
})

test('not_permitted: an API key that may not approve changes no key', async (t) => {
  const { session, device } = await setUp()
  await world().query("UPDATE lensers.sessions SET scope = 'api', name = 'ci' WHERE kid = $1", [session.kid])
  t.is(codeOf(await reprove(session, device)), 'not_permitted')
  t.is(codeOf(await require(session, device)), 'not_permitted')
})
