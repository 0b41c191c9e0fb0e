import { setTimeout as sleep } from 'node:timers/promises'
import { encodeBase64Url, envelopeDigest, generateKeyPair } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { askSubject, inSubject, nilUuid } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { codeOf, Edge, newSession, operation, resultOf } from './_edge.ts'

let stack: Stack
let edge: Edge

test.before(async () => {
  // The broker's wall is down: what holds here is the service's own check, and the database's.
  stack = await testStack({
    callout: false,
    replicas: { 'broker-auth': 0, 'trust-evaluator': 0, 'sync-applier': 0, registrar: 2 },
  })
  edge = await Edge.connect(stack)
})
test.after.always(async () => {
  await edge?.close()
  await stack?.stop()
})

test('an account signs in, enrols a device, and the device learns that it is approved', async (t) => {
  const session = await edge.session('enroller')
  const device = await edge.register(session, 'laptop')
  t.is(resultOf(await edge.ask(device, 'status')).trust_level, 'pending')
  t.is(codeOf(await edge.ask(session, 'approve', operation({ device_id: device.kid }))), 'awaiting_device_challenge')
  const receipt = await edge.answerChallenge(device)
  t.is(receipt?.kind, 'receipt')
  t.deepEqual(resultOf(receipt), { device_id: device.kid, trust_level: 'pending', challenge_verified: true })
  const approval = resultOf(await edge.ask(session, 'approve', operation({ device_id: device.kid })))
  t.is(approval.trust_level, 'approved')
  t.is(resultOf(await edge.ask(device, 'status')).trust_level, 'approved')
})

test('login, registration and an outdated status answer carry the gateway’s key list', async (t) => {
  const session = newSession()
  const login = resultOf(await edge.login(session, await edge.token(session, 'key learner')))
  t.is(login.keys, stack.gatewayKeys.list)
  const signedIn = { ...session, lenser: login.lenser_id as string }
  const registration = edge.registration(generateKeyPair().publicKey, 'x')
  t.is(resultOf(await edge.ask(signedIn, 'register', registration)).keys, stack.gatewayKeys.list)
  t.is(resultOf(await edge.ask(signedIn, 'status', { keys_number: 0 })).keys, stack.gatewayKeys.list)
  t.is(resultOf(await edge.ask(signedIn, 'status', { keys_number: 1 })).keys, undefined)
})

test('DA-2: a challenge answered with a forged signature is signature_mismatch, and proves nothing', async (t) => {
  const session = await edge.session('forged at')
  const device = await edge.register(session, 'victim')
  t.is(codeOf(await edge.answerChallenge(device, generateKeyPair().privateKey)), 'signature_mismatch')
  t.is(codeOf(await edge.ask(session, 'approve', operation({ device_id: device.kid }))), 'awaiting_device_challenge')
})

test('DA-3: another account’s session does not approve, whatever door it uses', async (t) => {
  const [mine, theirs] = [await edge.session('owner'), await edge.session('stranger')]
  const device = await edge.register(mine, 'contested')
  resultOf(await edge.answerChallenge(device))
  const approve = operation({ device_id: device.kid })
  t.is(codeOf(await edge.ask(theirs, 'approve', approve)), 'not_owner')
  t.is(codeOf(await edge.ask({ ...theirs, lenser: mine.lenser }, 'approve', approve)), 'kid_mismatch')
  const asMine = edge.sign(theirs, 'approve', approve)
  t.is(codeOf(await edge.send(askSubject({ ...mine, kind: 'approve' }), asMine)), 'kid_mismatch')
  t.is(codeOf(await edge.ask({ ...mine, key: theirs.key }, 'approve', approve)), 'signature_mismatch')
  t.is(await edge.levelOf(mine, device), 'pending')
})

test('DR-4: device_name_taken reaches the asker, and a revoked name is free', async (t) => {
  const session = await edge.session('namer')
  const device = await edge.register(session, 'only one')
  const second = edge.registration(generateKeyPair().publicKey, 'only one')
  t.is(codeOf(await edge.ask(session, 'register', second)), 'device_name_taken')
  resultOf(await edge.ask(session, 'revoke', operation({ device_id: device.kid })))
  t.is(codeOf(await edge.ask(session, 'register', second)), 'device_name_taken', 'one result')
  t.not((await edge.register(session, 'only one')).kid, device.kid)
})

test('token_invalid, token_not_bound: what is no token for this key and gateway signs nobody in', async (t) => {
  const session = newSession()
  t.is(codeOf(await edge.login(session, 'aaaaaaaa.bbbbbbbb.cccccccc')), 'token_invalid')
  t.is(codeOf(await edge.login(session, await edge.token(session, 'x', 'another-gateway'))), 'token_invalid')
  t.is(codeOf(await edge.login(session, await edge.token(newSession(), 'x'))), 'token_not_bound')
  t.is(codeOf(await edge.ask({ ...session, lenser: nilUuid }, 'list')), 'unknown_session')
})

test('every other refusal of the ask door, through the real bus', async (t) => {
  const session = await edge.session('refused')
  const subject = askSubject({ ...session, kind: 'list' })
  const say = async (bytes: Uint8Array, at = subject) => codeOf(await edge.send(at, bytes))
  const now = Math.floor(Date.now() / 1000)
  t.is(await say(Buffer.from('hello')), 'malformed_envelope')
  const good = edge.sign(session, 'list', {})
  t.is(await say(Buffer.concat([good, Buffer.from('\n')])), 'not_canonical')
  t.is(await say(edge.sign(session, 'status', {})), 'kind_mismatch')
  t.is(await say(edge.sign(session, 'list', { aud: session.kid })), 'audience_mismatch')
  t.is(await say(edge.sign(session, 'list', { everything: true })), 'malformed_body')
  t.is(await say(edge.sign(session, 'list', {}, { iat: now - 400 })), 'iat_window')
  t.is(await say(edge.sign(session, 'list', {}, { iat: now + 400 })), 'iat_window')
  t.is(await say(edge.sign(newSession(), 'list', {})), 'kid_mismatch')
  const stranger = newSession()
  const known = { kid: stranger.kid, lenser: session.lenser, kind: 'list' }
  t.is(await say(edge.sign(stranger, 'list', {}), askSubject(known)), 'unknown_session')
  const device = { ...newSession(), kid: '22222222-2222-4222-8222-222222222222', lenser: session.lenser }
  t.is(codeOf(await edge.ask(device, 'status')), 'unknown_device')
})

test('RP-2: a request that comes again is nonce_replay, and its operation has one effect', async (t) => {
  const session = await edge.session('replayed')
  const bytes = edge.sign(session, 'register', edge.registration(generateKeyPair().publicKey, 'once'))
  const subject = askSubject({ ...session, kind: 'register' })
  t.is(codeOf(await edge.send(subject, bytes)), 'ok')
  await edge.send(subject, bytes)
  const digest = encodeBase64Url(envelopeDigest(bytes))
  for (const end = Date.now() + 60_000; edge.heardOf(digest).length < 2 && Date.now() < end; ) await sleep(50)
  t.deepEqual(edge.heardOf(digest).map(codeOf), ['ok', 'nonce_replay'])
  t.is((resultOf(await edge.ask(session, 'list')).devices as unknown[]).length, 1)
})

test('law 2: an operation asked for again, signed anew, gives its result again, at whichever replica', async (t) => {
  const session = await edge.session('repeater')
  const body = edge.registration(generateKeyPair().publicKey, 'repeated')
  const replies = await Promise.all(Array.from({ length: 8 }, () => edge.ask(session, 'register', body)))
  const ids = new Set(replies.map((reply) => resultOf(reply).device_id))
  t.is(ids.size, 1)
  const device = await edge.register(session, 'second')
  resultOf(await edge.answerChallenge(device))
  const challenge = operation({ device_id: device.kid, challenge: device.challenge })
  const answers = await Promise.all(
    [1, 2, 3].map(() =>
      edge.send(inSubject({ ...device, kind: 'challenge' }), edge.sign(device, 'challenge', challenge)),
    ),
  )
  t.is(new Set(answers.map((answer) => JSON.stringify(resultOf(answer)))).size, 1)
})

test('no answer goes where the asker says', async (t) => {
  const session = await edge.session('misdirecting')
  const bytes = edge.sign(session, 'list', {})
  const reply = await edge.send(askSubject({ ...session, kind: 'list' }), bytes)
  t.is(reply?.to, session.kid)
  t.is(reply?.kind, 'answer')
})
