import type { AddressedReceipt } from '@lenserfight/bus'
import { encodeBase64Url, encodeKey, envelopeDigest, newUuidV7 } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { createVerifiedHandler } from '../src/verified/handle.ts'
import { codeOf, gatewayId, newKey, operation, resultOf, sign, useWorld } from './_world.ts'

const world = useWorld(test)

test('DR-2: a registered device is pending and has a challenge to answer', async (t) => {
  const session = await world().newSession()
  const key = newKey()
  const result = resultOf(await world().ask(session, 'register', world().registration(key, { name: 'mine' })))
  t.is(result.trust_level, 'pending')
  t.is(result.lenser_id, session.lenser)
  t.regex(result.challenge as string, /^[A-Za-z0-9_-]{22}$/)
  const seconds = (result.challenge_expires_at as number) - Date.now() / 1000
  t.true(Math.abs(seconds - limits.challengeSeconds) < 60)
  const [row] = await world().query<Record<string, unknown>>(
    'SELECT name, device_type, os, capabilities, public_key, submitted_public_key FROM devices.registered_devices WHERE id = $1',
    [result.device_id],
  )
  t.deepEqual(row, {
    name: 'mine',
    device_type: 'laptop',
    os: 'linux 6.1',
    capabilities: ['node'],
    public_key: null,
    submitted_public_key: Buffer.from(key.publicKey),
  })
})

test('DR-3: a device belongs to the account of the session that signed, whatever the body says', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const body = world().registration(newKey(), { lenser_id: theirs.lenser, trust_level: 'trusted' })
  const { device_id } = resultOf(await world().ask(mine, 'register', body))
  const [row] = await world().query<{ lenser_id: string; trust_level: string }>(
    'SELECT lenser_id, trust_level FROM devices.registered_devices WHERE id = $1',
    [device_id],
  )
  t.deepEqual(row, { lenser_id: mine.lenser, trust_level: 'pending' })
})

test('DR-4: a name is an account’s own, once; another account may have it too', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  await world().register(mine, { name: 'laptop' })
  const again = await world().ask(mine, 'register', world().registration(newKey(), { name: 'laptop' }))
  t.is(codeOf(again), 'device_name_taken')
  await t.notThrowsAsync(world().register(theirs, { name: 'laptop' }))
})

test('DR-4: of registrations at once under one name, one succeeds', async (t) => {
  const session = await world().newSession()
  const outcomes = await Promise.all(
    Array.from({ length: 6 }, () =>
      world().ask(session, 'register', world().registration(newKey(), { name: 'contested' })),
    ),
  )
  const codes = outcomes.map(codeOf).sort()
  t.deepEqual(codes, [...Array.from({ length: 5 }, () => 'device_name_taken'), 'ok'])
})

test('DR-4: the name of a revoked device is free again', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session, { name: 'reused' })
  resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid })))
  const again = await world().register(session, { name: 'reused' })
  t.not(again.kid, device.kid)
})

test('device_limit: an account has so many living devices and no more', async (t) => {
  const session = await world().newSession()
  await world().query(
    `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os)
     SELECT $1, 'device ' || n, 'ci', 'linux' FROM generate_series(1, $2::int) AS n`,
    [session.lenser, limits.devicesPerLenser - 1],
  )
  const last = await world().register(session)
  t.is(codeOf(await world().ask(session, 'register', world().registration(newKey()))), 'device_limit')
  resultOf(await world().ask(session, 'revoke', operation({ device_id: last.kid })))
  t.is(codeOf(await world().ask(session, 'register', world().registration(newKey()))), 'ok')
})

test('DA-1: a device that has not answered its challenge is not approved', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session)
  t.is(codeOf(await world().approve(session, device)), 'awaiting_device_challenge')
  t.is(await world().levelOf(device), 'pending')
  const body = operation({ device_id: device.kid })
  t.is(codeOf(await world().ask(session, 'approve', body)), 'awaiting_device_challenge')
  resultOf(await world().answerChallenge(device))
  t.is(codeOf(await world().ask(session, 'approve', body)), 'ok', 'the same operation succeeds once it can')
})

test('DR-5: approval makes the submitted key the device’s key', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const [row] = await world().query<Record<string, unknown>>(
    'SELECT public_key, trust_level, trust_reason, approved_at IS NOT NULL AS dated FROM devices.registered_devices WHERE id = $1',
    [device.kid],
  )
  t.deepEqual(row, {
    public_key: Buffer.from(device.publicKey),
    trust_level: 'approved',
    trust_reason: 'approved by its owner',
    dated: true,
  })
})

test('DR-5: the key that a device was registered with never changes, for nobody', async (t) => {
  const device = await world().register(await world().newSession())
  const change = world().query('UPDATE devices.registered_devices SET submitted_public_key = $2 WHERE id = $1', [
    device.kid,
    Buffer.from(newKey().publicKey),
  ])
  t.is((await t.throwsAsync<Error & { code: string }>(change))?.code, 'LT003')
})

test('DA-3: only its owner approves or revokes a device', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const device = await world().register(mine)
  resultOf(await world().answerChallenge(device))
  t.is(codeOf(await world().approve(theirs, device)), 'not_owner')
  t.is(codeOf(await world().ask(theirs, 'revoke', operation({ device_id: device.kid }))), 'not_owner')
  t.is(await world().levelOf(device), 'pending')
  t.is(codeOf(await world().approve(mine, device)), 'ok')
})

test('device_not_found: no such device is approved or revoked', async (t) => {
  const session = await world().newSession()
  const device_id = '22222222-2222-4222-8222-222222222222'
  t.is(codeOf(await world().ask(session, 'approve', operation({ device_id }))), 'device_not_found')
  t.is(codeOf(await world().ask(session, 'revoke', operation({ device_id }))), 'device_not_found')
})

test('challenge_mismatch: a wrong answer, or one for another device, proves nothing', async (t) => {
  const session = await world().newSession()
  const [device, other] = [await world().register(session), await world().register(session)]
  t.is(codeOf(await world().answerChallenge(device, { challenge: other.challenge })), 'challenge_mismatch')
  t.is(codeOf(await world().answerChallenge(device, { device_id: other.kid })), 'challenge_mismatch')
  t.is(codeOf(await world().approve(session, device)), 'awaiting_device_challenge')
  t.is(codeOf(await world().approve(session, other)), 'awaiting_device_challenge')
})

test('claim_expired: an answer that no verifier let in is not applied', async (t) => {
  const device = await world().register(await world().newSession())
  const body = operation({ device_id: device.kid, challenge: device.challenge })
  const [outcome] = await world().store.postChallenges([sign(device, 'challenge', body).text])
  t.is(outcome && codeOf(outcome), 'claim_expired')
  const asked = sign(device, 'challenge', body)
  await world().claim(asked)
  const [second] = await world().store.postChallenges([asked.text])
  t.is(second && codeOf(second), 'claim_expired', 'a claim of another door is none')
})

test('challenge_expired: judged by the time at which the broker stored the answer', async (t) => {
  const session = await world().newSession()
  const [late, intime] = [await world().register(session), await world().register(session)]
  const expire = 'UPDATE devices.registered_devices SET challenge_expires_at = $2 WHERE id = $1'
  const now = Date.now()
  await world().query(expire, [late.kid, new Date(now - 60_000)])
  await world().query(expire, [intime.kid, new Date(now - 60_000)])
  t.is(codeOf(await world().answerChallenge(late)), 'challenge_expired')
  t.is(codeOf(await world().answerChallenge(intime, {}, BigInt(now - 61_000) * 1_000_000n)), 'ok')
  t.is(codeOf(await world().approve(session, late)), 'challenge_expired')
  t.is(codeOf(await world().approve(session, intime)), 'ok')
})

test('challenge_expired: registering again under the same name replaces the one that can never be approved', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session, { name: 'second try' })
  await world().query('UPDATE devices.registered_devices SET challenge_expires_at = now() WHERE id = $1', [device.kid])
  const again = await world().newDevice(session, { name: 'second try' })
  t.is(await world().levelOf(device), 'revoked')
  t.is(await world().levelOf(again), 'approved')
})

test('a challenge answered again after approval changes nothing', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  t.deepEqual(resultOf(await world().answerChallenge(device)), {
    device_id: device.kid,
    trust_level: 'approved',
    challenge_verified: true,
  })
  t.is(codeOf(await world().approve(session, device)), 'ok')
  t.is(await world().levelOf(device), 'approved')
})

test('challenges of several devices in one batch each get their own outcome, in order', async (t) => {
  const session = await world().newSession()
  const devices = await Promise.all(Array.from({ length: 5 }, () => world().register(session)))
  const texts = await Promise.all(
    devices.map(async (device, index) => {
      const challenge = index === 2 ? devices[0]?.challenge : device.challenge
      const signed = sign(device, 'challenge', operation({ device_id: device.kid, challenge }))
      if (index !== 3) await world().claimIngress(signed)
      return signed.text
    }),
  )
  const outcomes = await world().store.postChallenges(texts)
  t.deepEqual(outcomes.map(codeOf), ['ok', 'ok', 'challenge_mismatch', 'claim_expired', 'ok'])
  t.is(resultOf(outcomes[4] as never).device_id, devices[4]?.kid)
})

test('a device brings one key alone: registered with another’s public key it can never answer', async (t) => {
  const session = await world().newSession()
  const victim = await world().newDevice(await world().newSession())
  const result = resultOf(
    await world().ask(session, 'register', world().registration(newKey(), { public_key: encodeKey(victim.publicKey) })),
  )
  const thief = { ...newKey(result.device_id as string), challenge: result.challenge as string }
  t.is(codeOf(await world().answerChallenge(thief)), 'key_changed', 'the claim compares the key that was checked')
})

test('law 2: a forged batch that names an envelope of a device ends nothing of that device’s', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session)
  const receipts: AddressedReceipt[] = []
  const { handle, deadLetter } = createVerifiedHandler({
    ...{ gatewayId, store: world().store },
    sendReceipts: (more) => receipts.push(...more),
    logger: createLogger({ service: 'registrar', level: 'silent' }),
  })
  const answer = sign(device, 'challenge', { ...operation(), device_id: device.kid, challenge: device.challenge })
  const { lenser, digest } = { lenser: session.lenser, digest: encodeBase64Url(answer.digest) }
  const forged = { kind: 'challenge' as const, lenser, kid: device.kid, digest, stored: '1', text: '{}' }
  await handle([forged])
  const delivery = { subject: '', data: Buffer.from(answer.text), stream: '', seq: 1, stored: '1', deliveries: 1 }
  deadLetter(forged, { incidentId: newUuidV7(), cause: undefined, delivery })
  const ofForged = encodeBase64Url(envelopeDigest(Buffer.from('{}')))
  t.deepEqual(
    receipts.map(({ item }) => [item.digest, item.ok]),
    [
      [ofForged, false],
      [ofForged, false],
    ],
  )
  t.is(resultOf(await world().answerChallenge(device)).trust_level, 'pending', 'its answer counts')
})
