import { randomUUID } from 'node:crypto'
import { encodeKey, generateKeyPair, type KeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { askSubject, limits, type ReasonCode } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeRunner, makeSession } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { measureClock } from '../checks/index.ts'
import type { Stopwatch } from '../runs/stopwatch.ts'
import { asOwner, enter, halt, keyOf, newDevice, openLiar, openMeddler, ownKey, readBody, until } from './_gateway.ts'
import { createCanary } from './canary.ts'
import { resultOf } from './client.ts'
import { createHeartbeat } from './heartbeat.ts'
import { createRenewals } from './renewals.ts'

// The daemon's own parts, one by one, against the gateway's processes; workers are halted where a lie is to come first.
let stack: Stack
let liar: Awaited<ReturnType<typeof openLiar>>
test.before(async () => {
  stack = await testStack({ replicas: { 'audit-chain': 0 } })
  await stack.whenReady()
  liar = await openLiar(stack, ['status', 'approve'])
})
test.after.always(async () => {
  await liar?.close()
  await stack?.stop()
})

/** A key list in which a root vouches for itself. */
const listOf = (number: number, root: KeyPair): string => {
  const { kid, key } = ownKey(root)
  const seconds = Math.floor(Date.now() / 1000)
  const entry = {
    ...{ kid, public_key: encodeKey(root.publicKey), service: 'registrar', uses: ['answer'] },
    ...{ not_before: seconds - 60, not_after: seconds + 3600 },
  }
  const body = { kind: 'keys', aud: stack.descriptor.gateway_id, number, issued_at: seconds, keys: [entry] }
  return Buffer.from(signEnvelope({ kid, key, body }).bytes).toString()
}
const logger = createLogger({ service: 'test', level: 'silent' as never })
const long = { deadlineMs: 90_000 }
const { signal } = new AbortController()

test.serial(
  'an answer is believed only from a key of the gateway, for that use, to this key, of what was asked',
  async (t) => {
    const device = await newDevice(stack)
    const { client, untrusted } = await enter(t, stack, device)
    const goOn = halt(t, stack, 'registrar')
    const answered = client.ask('status', { keys_number: 1 }, long)
    const { digest, subject, bytes } = await until(() => liar.of(device)[0], 'the request')
    t.is(subject, askSubject({ ...device, kind: 'status' }))
    t.deepEqual(readBody(bytes), { kind: 'status', aud: stack.descriptor.gateway_id, keys_number: 1 })

    const lie = { digest, ok: true, result: { lie: true } }
    liar.say(device, 'answer', { ...lie, digest: 'A'.repeat(43) })
    liar.say(device, 'answer', lie, { by: ownKey(generateKeyPair()) })
    liar.say(device, 'answer', lie, { by: keyOf(stack, 'verifier') })
    liar.say(device, 'answer', lie, { by: { kid: device.kid, key: device.keys.privateKey } })
    liar.say(device, 'answer', lie, { to: randomUUID() })
    liar.say(device, 'answer', lie, { channel: 'receipt' })
    await until(() => untrusted() === 5, 'the last lie')
    goOn()
    const { lie: believed, trust_level } = resultOf(await answered)
    t.deepEqual([believed, trust_level], [undefined, 'approved'])
  },
)

test.serial(
  'an answer to an earlier try counts, and what passes by itself is told when no time is left to wait',
  async (t) => {
    const device = await newDevice(stack)
    const { client } = await enter(t, stack, device)
    halt(t, stack, 'registrar')
    const answered = client.ask('status', {}, long)
    const [first] = await until(() => liar.of(device).length >= 2 && liar.of(device), 'a second try')
    liar.say(device, 'answer', { digest: first?.digest, ok: true, result: { n: 1 } })
    t.deepEqual(resultOf(await answered), { n: 1 })

    const { length } = liar.of(device)
    const refused = client.ask('status', {}, long)
    const next = await until(() => liar.of(device)[length], 'the request')
    liar.say(device, 'answer', { digest: next.digest, ok: false, code: 'unavailable', retry_after: 3600 })
    t.is((await refused).code, 'unavailable')
  },
)

test.serial(
  'what a new signature may cure is signed anew, with the same body, and is told after a few that cure nothing',
  async (t) => {
    const [device, other] = [await newDevice(stack), await newDevice(stack)]
    let signed = 0
    const late = 2 * limits.iatWindowSeconds * 1000
    const isSetSoon = await enter(t, stack, device, { now: () => Date.now() - (signed++ === 0 ? late : 0) })
    const answer = await isSetSoon.client.ask('status', { keys_number: 1 }, long)
    t.is(resultOf(answer).trust_level, 'approved')
    const [first, second] = liar.of(device)
    t.deepEqual(readBody(second?.bytes as Uint8Array), readBody(first?.bytes as Uint8Array))

    const isLate = () => Date.now() - late
    const staysWrong = await enter(t, stack, other, { now: isLate })
    const refused = await measureClock(() => staysWrong.client.ask('status', {}, long), isLate)
    t.is(refused.answer.code, 'iat_window')
    const { offset_ms, uncertainty_ms } = refused.clock
    t.true(
      Math.abs(offset_ms - late) <= uncertainty_ms,
      'a refusal is dated too, so a clock that is refused can be read',
    )
    const { length } = liar.of(other)
    t.true(length >= 4 && length < 10, `${length} tries`)
  },
)

test.serial('a refusal that a person must end is told at once', async (t) => {
  const { session, device } = await asOwner(stack, async (db) => {
    const { lenser } = await makeAccount(db)
    return { session: await makeSession(db, lenser), device: await makeDevice(db, { lenser, level: 'pending' }) }
  })
  const { client } = await enter(t, stack, session)
  const refusal = await client.ask('approve', { op_id: newUuidV7(), device_id: device.kid }, long)
  t.throws(() => resultOf(refusal), { code: 'awaiting_device_challenge' })
  t.true(liar.of(session).length < 4, 'not again and again')
})

test.serial('the first answer brings the keys that it is checked with, by the root’s word alone', async (t) => {
  const device = await newDevice(stack)
  const { client, trust, settings, untrusted } = await enter(t, stack, device, { keys: 'not a list' })
  const goOn = halt(t, stack, 'registrar')
  const answered = client.ask('status', { keys_number: 0 }, long)
  const { digest } = await until(() => liar.of(device)[0], 'the request')
  const forged = generateKeyPair()
  const keys = listOf(9, forged)
  liar.say(device, 'answer', { digest, ok: true, result: { keys } }, { by: ownKey(forged) })
  await until(() => untrusted() === 1, 'the lie')
  t.is(trust.keysNumber(), 0)
  goOn()
  t.is(resultOf(await answered).trust_level, 'approved')
  t.deepEqual([trust.keysNumber(), settings.get('keys')], [1, stack.gatewayKeys.list])
})

test.serial('a newer key list that is called out is taken by the root’s word, whoever carries it', async (t) => {
  const [root, device] = [generateKeyPair(), await newDevice(stack)]
  const meddler = await openMeddler(t, stack)
  const descriptor = { ...stack.descriptor, url: meddler.url, root_key: encodeKey(root.publicKey) }
  const [first, second] = [listOf(1, root), listOf(2, root)]
  const { trust, settings, untrusted } = await enter(t, stack, device, { descriptor, keys: first })
  await meddler.say('ltg.v1.ctl.global', 'anything')
  await meddler.say('ltg.v1.ctl.keys', listOf(9, generateKeyPair()))
  await meddler.say('ltg.v1.ctl.keys', second)
  await until(() => trust.keysNumber() !== 1, 'the list')
  t.deepEqual([trust.keysNumber(), settings.get('keys'), untrusted()], [2, second, 0])
})

test.serial('law 5: of a canary its applier alone says that it came through; the verifier may refuse it', async (t) => {
  const device = await newDevice(stack)
  const { client, receivers, items, digests, untrusted } = await enter(t, stack, device)
  const canary = createCanary()
  receivers.push(canary.receive)
  canary.attach(client)
  const goOn = halt(t, stack, 'trust-evaluator')
  const sent = [canary.send(90_000, signal), canary.send(90_000, signal)]
  const lies = digests.map((digest) => ({ digest, ok: true, result: { lie: true } }))
  liar.say(device, 'receipt', { items: lies }, { by: ownKey(generateKeyPair()) })
  liar.say(device, 'receipt', { items: lies }, { by: keyOf(stack, 'verifier') })
  liar.say(device, 'receipt', { items: lies })
  await until(() => items.length >= 4, 'the lies')
  t.is(untrusted(), 1)
  goOn()
  const times = await Promise.all(sent)
  for (const { lie, sent_at, received_at, applied_at_ms } of times) {
    t.deepEqual([lie, typeof applied_at_ms], [undefined, 'number'])
    t.true(Number(received_at) >= Number(sent_at))
  }
  const own = (digest: string) => items.find((item) => item.digest === digest && item.result?.lie === undefined)?.result
  for (const [index, digest] of digests.entries()) t.like(times[index], own(digest) as object)

  const mute = await enter(t, stack, device, { key: generateKeyPair() })
  const refused = createCanary()
  mute.receivers.push(refused.receive)
  refused.attach(mute.client)
  await t.throwsAsync(refused.send(90_000, signal), { code: 'signature_mismatch' })
})

test.serial('without a connection no canary is sent, and no more than a few wait at once', async (t) => {
  const canary = createCanary()
  await t.throwsAsync(canary.send(90_000, signal), { code: 'gateway_unreachable' })
  const { client, counted } = await enter(t, stack, await newDevice(stack))
  // Nobody listens to its receipts: each waits until that is ended.
  canary.attach(client)
  const ending = new AbortController()
  const waiting = Array.from({ length: 16 }, () => canary.send(90_000, ending.signal))
  await t.throwsAsync(canary.send(90_000, signal), { code: 'rate_limited' })
  ending.abort()
  await Promise.all(waiting.map((each) => t.throwsAsync(each, { code: 'answer_timeout' })))
  t.is(counted(), 16)
  canary.detach()
  await t.throwsAsync(canary.send(90_000, signal), { code: 'gateway_unreachable' })
})

test.serial(
  'RH-4: a beat goes out at once for a runner that none of the last seconds named, and for no other',
  async (t) => {
    const { device, ids } = await asOwner(stack, async (db) => {
      const made = await makeDevice(db, await makeAccount(db))
      return { device: made, ids: [await makeRunner(db, made), await makeRunner(db, made)] as const }
    })
    const { client, receivers, counted } = await enter(t, stack, device)
    const results: unknown[] = []
    let runners: string[] = []
    const heartbeat = createHeartbeat({
      ...{ everyMs: 3_600_000, logger, onRefused: (code) => results.push(code) },
      body: () => ({
        ...{ daemon_version: '0', gateway_status: 'connected' },
        runners: runners.map((runner_id) => ({ runner_id, open_runs: 0 })),
      }),
      onResult: (result) => results.push(result.runners),
    })
    receivers.push(heartbeat.receive)
    t.teardown(heartbeat.stop)
    heartbeat.beatFor(ids[0])
    t.is(counted(), 0, 'nothing can be sent yet')
    t.is(heartbeat.acceptedAt(), null)
    heartbeat.start(client)
    runners = [ids[0]]
    heartbeat.beatFor(ids[0])
    heartbeat.beatFor(ids[0])
    t.is(counted(), 2)
    runners = [ids[1], ids[0]]
    heartbeat.beatFor(ids[1])
    t.is(counted(), 3)
    await until(() => results.length === 3, 'their receipts')
    t.deepEqual(new Set(results.flat()), new Set(ids), 'the gateway knows of both')
    t.true(Number(heartbeat.acceptedAt()) > 0)
    heartbeat.stop()
    heartbeat.beatFor(randomUUID())
    t.is(counted(), 3)
  },
)

/** A device's renewals, and what came of them. */
const renew = async (
  t: Parameters<typeof enter>[0],
  ...[device, options]: [Awaited<ReturnType<typeof newDevice>>, object?]
) => {
  const machine = await enter(t, stack, device, options)
  const words: [unknown, Stopwatch][] = []
  const refused: ReasonCode[] = []
  const unable: ReasonCode[] = []
  const renewals = createRenewals({
    logger,
    onWord: (said, since) => words.push([said.run_id, since]),
    onRefused: (code) => refused.push(code),
    onUnable: (code) => unable.push(code),
  })
  machine.receivers.push(renewals.receive)
  return { ...machine, renewals, words, refused, unable }
}

test.serial(
  'an answer to a renewal counts from before it was asked for, once, and only from who applies it',
  async (t) => {
    const device = await newDevice(stack)
    const { renewals, client, send, items, words, counted } = await renew(t, device)
    const { result } = await send('run_start', { op_id: newUuidV7(), command_hash: 'A'.repeat(43), inputs: [] })
    const run = String(result?.run_id)
    t.is(renewals.ask([run]), undefined, 'nothing can be sent yet')
    renewals.attach(client)
    // One more than fit into a request: the gateway knows the first of them.
    const ids = [run, ...Array.from({ length: limits.renewalsPerRequest }, () => randomUUID())]
    const before = counted()
    const since = renewals.ask(ids)
    t.is(counted() - before, 2)
    await until(() => words.length === ids.length, 'a word on each')
    t.deepEqual(new Set(words), new Set(ids.map((id) => [id, since] as [unknown, Stopwatch])))
    const [receipt] = items.filter(({ result: said }) => Array.isArray(said?.runs))
    const { length } = items
    liar.say(device, 'receipt', { items: [receipt] }, { by: keyOf(stack, 'trust-evaluator') })
    await until(() => items.length > length, 'the same receipt again')
    t.is(words.length, ids.length)

    renewals.detach()
    t.is(renewals.ask([run]), undefined)
  },
)

test.serial('only who applies a renewal gives word on a run', async (t) => {
  const device = await newDevice(stack)
  const { renewals, client, words, items, digests } = await renew(t, device)
  renewals.attach(client)
  const run = randomUUID()
  halt(t, stack, 'trust-evaluator')
  renewals.ask([run])
  const lie = { digest: digests[0], ok: true, result: { runs: [{ run_id: run, verdict: 'allow' }] } }
  liar.say(device, 'receipt', { items: [lie] })
  liar.say(device, 'receipt', { items: [lie] }, { by: keyOf(stack, 'verifier') })
  await until(() => items.length === 2, 'the lies')
  t.deepEqual(words, [])
  const none = { digest: digests[0], ok: true, result: { runs: ['none', { run_id: run, code: 'unknown_run' }] } }
  liar.say(device, 'receipt', { items: [none] }, { by: keyOf(stack, 'trust-evaluator') })
  await until(() => words.length > 0, 'the word')
  t.deepEqual(
    words.map(([id]) => id),
    [run],
  )
})

test.serial(
  'a refused renewal is told, and one that the disk does not count, and neither is a word on any run',
  async (t) => {
    const device = await newDevice(stack)
    const { renewals, client, refused, unable, words, store } = await renew(t, device, { key: generateKeyPair() })
    renewals.attach(client)
    t.not(renewals.ask([randomUUID()]), undefined)
    await until(() => refused.length > 0, 'the refusal')
    t.deepEqual([refused, unable], [['signature_mismatch'], []])
    store.run('DELETE FROM counter')
    t.is(renewals.ask([randomUUID()]), undefined)
    t.deepEqual([unable, words], [['state_unwritable'], []])
  },
)
