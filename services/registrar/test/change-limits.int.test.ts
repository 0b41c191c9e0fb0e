import { randomUUID } from 'node:crypto'
import { encodeKey } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { codeOf, type Device, newKey, operation, resultOf, type Session, sign, token, useWorld } from './_world.ts'

const world = useWorld(test)

const ask = (session: Session, kind: string, device: { kid: string }, members: object = {}): Promise<Outcome> =>
  world().ask(session, kind, operation({ device_id: device.kid, ...members }))
const endSession = (session: Session, kid: string) =>
  world().ask(session, 'session_revoke', operation({ session: kid }))
/** Results of so many changes of an account, committed so long ago. */
const changedBefore = ({ kid, lenser }: Session, count: number, ago: string) =>
  world().query(
    `INSERT INTO devices.operations (kid, op_id, kind, content_digest, digest, lenser_id, result, committed_at)
     SELECT $1, gen_random_uuid(), 'runner_bind', sha256(''), sha256(''), $2, '{}', now() - $4::interval
       FROM generate_series(1, $3)`,
    [kid, lenser, count, ago],
  )
const writtenOf = async ({ lenser }: Session): Promise<number> =>
  (await world().query('SELECT FROM devices.operations WHERE lenser_id = $1', [lenser])).length
const retryOf = (outcome: Outcome): number => (outcome.ok ? 0 : (outcome.retry_after ?? 0))

/** One rotation, claimed and applied; the device as it is then. */
const rotate = async (device: Device, to = newKey()): Promise<{ outcome: Outcome; device: Device }> => {
  const signed = sign(device, 'rotate', world().rotation(device, to))
  const verdict = await world().claimIngress(signed)
  if (verdict !== 'ok') throw new Error(verdict)
  const [outcome] = await world().store.rotate([signed.text], [encodeKey(device.publicKey)])
  const next = outcome?.ok === true ? { ...device, key: to.key, publicKey: to.publicKey } : device
  return { outcome: outcome as Outcome, device: next }
}
const reprove = async (session: Session, device: Device): Promise<Outcome> =>
  world().ask(session, 'reprove', world().reproof(device, newKey()))

/** Whatever locks a device's row for a change waits behind this, as behind its claims, and gives up in the end. */
const whileClaimed = async <T>(device: Device, act: () => Promise<T>): Promise<T> => {
  const holder = await world().owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [device.kid])
    return await act()
  } finally {
    await holder.query('ROLLBACK')
    holder.release()
  }
}

test('change_limit: an account changes so much within an hour and no more, and is told when it may again', async (t) => {
  const subject = randomUUID()
  const [session, other] = [await world().newSession(subject), await world().newSession()]
  const [device, pending] = [await world().newDevice(session), await world().register(session)]
  await changedBefore(session, limits.accountChangesPerHour, '30 minutes')
  const before = await writtenOf(session)
  const key = newKey()
  for (const [kind, members] of [
    ['register', world().registration(newKey())],
    ['approve', operation({ device_id: pending.kid })],
    ['reinstate', operation({ device_id: device.kid })],
    ['rotation_require', operation({ device_id: device.kid, within_seconds: 60 })],
    ['reprove', world().reproof(device, newKey())],
    ['runner_bind', operation({ device_id: device.kid, name: 'one' })],
    [
      'api_key_create',
      operation({ name: 'ci', public_key: encodeKey(key.publicKey), may_approve: false, expires_in_days: 1 }),
    ],
  ] as const) {
    const outcome = await world().ask(session, kind, members)
    t.is(codeOf(outcome), 'change_limit', kind)
    t.true(Math.abs(retryOf(outcome) - 1800) < 60, `${kind}: ${retryOf(outcome)}`)
  }
  t.is(codeOf(await world().login(session, token(subject))), 'change_limit', 'who is signed in already')
  t.is(await writtenOf(session), before, 'nothing is written of it')
  t.is(codeOf(await world().ask(session, 'list', {})), 'ok')
  t.is(codeOf(await world().login(newKey(), token(subject))), 'ok', 'a fresh key signs in')
  resultOf(
    await world()
      .newDevice(other)
      .then((theirs) => ask(other, 'rotation_require', theirs, { within_seconds: 60 })),
  )
})

test('change_limit: an hour later the account may change again', async (t) => {
  const session = await world().newSession()
  await changedBefore(session, limits.accountChangesPerHour - 2, '59 minutes')
  await changedBefore(session, limits.accountChangesPerHour, '61 minutes')
  t.is(codeOf(await world().ask(session, 'register', world().registration(newKey()))), 'ok')
  const full = await world().ask(session, 'register', world().registration(newKey()))
  t.is(codeOf(full), 'change_limit', 'its sign-in counts too')
  t.true(retryOf(full) >= 1 && retryOf(full) <= 60)
})

test('what restricts is never refused for having changed too much: revoke, suspend, session_revoke', async (t) => {
  const subject = randomUUID()
  const [session, second] = [await world().newSession(subject), await world().newSession(subject)]
  const [first, lost, dated] = [
    await world().newDevice(session),
    await world().newDevice(session),
    await world().newDevice(session),
  ]
  await changedBefore(session, limits.accountChangesPerHour, '1 minute')
  const from = await writtenOf(session)
  t.is(resultOf(await ask(session, 'suspend', first, { reason: 'lost' })).trust_level, 'unhealthy')
  t.is(resultOf(await ask(session, 'revoke', lost)).trust_level, 'revoked')
  const since = Math.floor(Date.now() / 1000) - 60
  t.is(resultOf(await ask(session, 'revoke', dated, { compromised_since: since })).compromised_since, since)
  t.true(Number(resultOf(await endSession(session, second.kid)).revoked_at) > 0)
  t.is(await writtenOf(session), from + 4, 'each has its result and its record')

  // What changes nothing is answered, and leaves nothing.
  t.is(resultOf(await ask(session, 'suspend', first)).trust_reason, 'suspended by its owner: lost')
  t.is(resultOf(await ask(session, 'revoke', lost)).trust_level, 'revoked')
  t.is(resultOf(await ask(session, 'revoke', dated, { compromised_since: since + 1 })).trust_level, 'revoked')
  t.true(Number(resultOf(await endSession(session, second.kid)).revoked_at) > 0)
  t.is(codeOf(await endSession(session, randomUUID())), 'session_not_found')
  t.is(codeOf(await ask(session, 'revoke', newKey(randomUUID()))), 'device_not_found')
  t.is(codeOf(await ask(session, 'suspend', lost)), 'device_revoked')
  t.is(await writtenOf(session), from + 4)
  t.is(resultOf(await ask(session, 'revoke', dated, { compromised_since: since - 60 })).compromised_since, since - 60)
  t.is(await writtenOf(session), from + 5, 'an earlier date restricts more')
})

test('change_limit: an owner who suspends and reinstates one device without end is stopped at reinstating it', async (t) => {
  const session = await world().newSession()
  const [device, beside] = [await world().newDevice(session), await world().newDevice(session)]
  let changes = 1
  let outcome: Outcome
  do {
    outcome = await ask(session, 'suspend', device)
    resultOf(outcome)
    outcome = await ask(session, 'reinstate', device)
    changes += 2
  } while (outcome.ok && changes < 100)
  t.is(codeOf(outcome), 'change_limit')
  t.true(changes <= limits.deviceChangesPerHour + 2, `${changes}`)
  t.true(retryOf(outcome) > 3000 && retryOf(outcome) <= 3600)
  t.is(codeOf(await ask(session, 'rotation_require', device, { within_seconds: 60 })), 'change_limit')
  t.is(codeOf(await ask(session, 'runner_bind', device, { name: 'a runner' })), 'device_unhealthy')
  t.is(codeOf(await reprove(session, device)), 'ok', 'another key is the way out, and has a bound of its own')
  t.is(codeOf(await ask(session, 'suspend', device)), 'ok')
  t.is(codeOf(await ask(session, 'reinstate', beside)), 'ok', 'another device')
  t.is(codeOf(await ask(session, 'revoke', device)), 'ok')
})

test('change_limit: no key history is outrun: each way of replacing a key has its count while its envelopes are under way', async (t) => {
  const session = await world().newSession()
  let device = await world().newDevice(session)
  for (let n = 0; n < limits.keyChangesPerWindow; n++) {
    const rotated = await rotate(device)
    t.is(codeOf(rotated.outcome), 'ok')
    device = rotated.device
  }
  const { outcome } = await rotate(device)
  t.is(codeOf(outcome), 'change_limit')
  t.true(retryOf(outcome) > 1200 && retryOf(outcome) <= 1290, `${retryOf(outcome)}`)
  t.is(codeOf((await rotate(device)).outcome), 'change_limit', 'it is judged anew each time it is asked')
  for (let n = 0; n < limits.keyChangesPerWindow; n++) t.is(codeOf(await reprove(session, device)), 'ok')
  t.is(codeOf(await reprove(session, device)), 'change_limit')
  t.is(codeOf(await ask(session, 'revoke', device)), 'ok')
  const numbers = (await world().keysOf(device)).map(({ public_key }) => public_key.toString('hex')).slice(0, -1)
  const known = (await world().store.formerKeys([device.kid])).get(device.kid) ?? []
  t.is(known.length, 2 * limits.keyChangesPerWindow)
  t.deepEqual(known.map(({ publicKey }) => Buffer.from(publicKey).toString('hex')).toReversed(), numbers)
})

// Alone: what waits for the table holds up the others.
test.serial('change_limit: what is asked without end locks no device, so nobody’s claims wait for it', async (t) => {
  const session = await world().newSession()
  const [suspended, revoked, pending] = [
    await world().newDevice(session),
    await world().newDevice(session),
    await world().register(session),
  ]
  let rotated = await world().newDevice(session)
  for (let n = 0; n < limits.keyChangesPerWindow; n++) rotated = (await rotate(rotated)).device
  resultOf(await ask(session, 'suspend', suspended))
  resultOf(await ask(session, 'revoke', revoked, { compromised_since: 1_700_000_000 }))
  const claimed = async (device: Device, act: () => Promise<Outcome>) => codeOf(await whileClaimed(device, act))
  t.is(await claimed(suspended, () => ask(session, 'suspend', suspended)), 'ok')
  t.is(await claimed(revoked, () => ask(session, 'revoke', revoked)), 'ok')
  t.is(await claimed(revoked, () => ask(session, 'revoke', revoked, { compromised_since: 1_700_000_001 })), 'ok')
  t.is(await claimed(pending, () => ask(session, 'approve', pending)), 'awaiting_device_challenge')
  t.is(await claimed(pending, () => ask(session, 'reinstate', pending)), 'device_pending')
  t.is(
    await claimed(rotated, () => ask(session, 'revoke', rotated, { compromised_since: 253_402_300_000 })),
    'malformed_body',
  )
  t.is(await claimed(rotated, async () => (await rotate(rotated)).outcome), 'change_limit')
  await t.throwsAsync(
    whileClaimed(rotated, () => ask(session, 'suspend', rotated)),
    undefined,
    'the claim would hold up what changes something',
  )
})

// Alone, as above.
test.serial('nor does what is refused without end: a date put back too often, a key that was used', async (t) => {
  const session = await world().newSession()
  const [revoked, device, forked] = [
    await world().newDevice(session),
    await world().newDevice(session),
    await world().newDevice(session),
  ]
  await world().query(
    `UPDATE devices.registered_devices SET trust_level = 'unhealthy', trust_actor = 'server', trust_reason = 'identity_forked'
      WHERE id = $1`,
    [forked.kid],
  )
  const dated = (since: number) => ask(session, 'revoke', revoked, { compromised_since: since })
  for (let n = 0; n < limits.deviceChangesPerHour; n++) t.is(codeOf(await dated(1_700_000_000 - n)), 'ok')
  t.is(await whileClaimed(revoked, async () => codeOf(await dated(1_600_000_000))), 'change_limit')
  const after = (await rotate(device)).device
  for (const used of [after, device]) {
    t.is(await whileClaimed(after, async () => codeOf((await rotate(after, used)).outcome)), 'key_reused')
  }
  t.is(await whileClaimed(forked, async () => codeOf((await rotate(forked)).outcome)), 'identity_forked')
  t.is(codeOf((await rotate(after)).outcome), 'ok')
})

test('change_limit: a login that is refused leaves nothing beyond the bound of the account that its token names', async (t) => {
  const subject = randomUUID()
  const [session, theirs] = [await world().newSession(), await world().newSession(subject)]
  await changedBefore(theirs, limits.accountChangesPerHour, '1 minute')
  const before = await writtenOf(theirs)
  t.is(codeOf(await world().login(session, token(subject))), 'not_owner')
  t.is(await writtenOf(theirs), before)
})

test('change_limit: what API keys change leaves the owner the means to end a theft', async (t) => {
  const session = await world().newSession()
  const [device, key] = [await world().newDevice(session), newKey()]
  const body = { name: 'ci', public_key: encodeKey(key.publicKey), may_approve: true, expires_in_days: 1 }
  resultOf(await world().ask(session, 'api_key_create', operation(body)))
  const api = { ...session, ...key }
  await changedBefore(session, limits.apiKeyChangesPerHour, '1 minute')
  const before = await writtenOf(session)
  t.is(codeOf(await world().ask(api, 'register', world().registration(newKey()))), 'change_limit')
  t.is(codeOf(await reprove(api, device)), 'change_limit')
  t.is(codeOf(await ask(api, 'suspend', newKey(randomUUID()))), 'device_not_found')
  t.is(await writtenOf(session), before)
  t.is(codeOf(await ask(api, 'suspend', device)), 'ok', 'what restricts is nobody refused')
  t.is(codeOf(await endSession(session, key.kid)), 'ok')
  t.is(codeOf(await reprove(session, device)), 'ok')
})

test('session_revoke of one that has ended, or is another account’s, locks no session', async (t) => {
  const subject = randomUUID()
  const [session, ended, theirs] = [
    await world().newSession(subject),
    await world().newSession(subject),
    await world().newSession(),
  ]
  resultOf(await endSession(session, ended.kid))
  const holder = await world().owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM lensers.sessions WHERE kid = ANY ($1) FOR SHARE', [
      [session.kid, ended.kid, theirs.kid],
    ])
    t.is(codeOf(await endSession(session, ended.kid)), 'ok')
    t.is(codeOf(await endSession(session, theirs.kid)), 'session_not_found')
  } finally {
    await holder.query('ROLLBACK')
    holder.release()
  }
})
