import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { envelopeDigest, generateKeyPair, kidOfKey, signEnvelope } from '@lenserfight/envelope'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type AnswerBody, CodedError, parseDoorSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import {
  type Bus,
  connectEdge,
  connectService,
  createAnswers,
  type EdgeBus,
  listen,
  verifyGatewayMessage,
  verifyKeyList,
} from '../src/index.ts'
import { quick, silent, until } from './_broker.ts'

let stack: Stack
let device: Signatory
let bus: Bus

test.before(async () => {
  stack = await testStack({
    replicas: { registrar: 0, verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 },
  })
  device = await withClient(stack.owner, async (client) =>
    makeDevice(client, { lenser: (await makeAccount(client)).lenser }),
  )
  const seed_file = join(stack.dir, 'registrar-seed')
  writeFileSync(seed_file, stack.busUser('registrar').seed, { mode: 0o600 })
  const nats = { servers: [stack.nats.url], seed_file }
  bus = await connectService({ service: 'registrar', nats, logger: silent, reconnect: quick })
})
test.after.always(async () => {
  await bus?.close()
  await stack?.stop()
})

const enter = async (t: ExecutionContext, who = device): Promise<EdgeBus> => {
  const edge = await connectEdge({
    url: stack.nats.url,
    gatewayId: stack.descriptor.gateway_id,
    ...{ kid: who.kid, lenser: who.lenser, key: who.keys.privateKey, reconnect: quick },
  })
  t.teardown(edge.close)
  return edge
}
const request = (): Uint8Array => {
  const body = { kind: 'status', aud: stack.descriptor.gateway_id }
  return signEnvelope({ kid: device.kid, key: device.keys.privateKey, body }).bytes
}
const verify = (bytes: Uint8Array): AnswerBody => {
  const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
  return verifyGatewayMessage(bytes, list, { kind: 'answer', use: 'answer', to: device.kid, now: Date.now() })
}
const voiceOf = (signer: { kid: string; key: Uint8Array }) =>
  createAnswers({ bus, gatewayId: stack.descriptor.gateway_id, signer, now: Date.now })

/** Answers `status` with what the test wants, at the subject that belongs to the door. */
const answering = (t: ExecutionContext, answer: (digest: string, send: ReturnType<typeof voiceOf>) => void): void => {
  const signer = stack.gatewayKeys.services.get('registrar')
  if (signer === undefined) throw new Error('the registrar has a key')
  const listening = listen({
    bus,
    subjects: ['ltg.v1.ask.*.*.status'],
    queue: 'registrar',
    maxInFlight: 8,
    logger: silent,
    onMessage: async ({ subject, data }) => {
      const door = parseDoorSubject(subject)
      if (door !== undefined) answer(Buffer.from(envelopeDigest(data)).toString('base64url'), voiceOf(signer))
    },
  })
  t.teardown(listening.stop)
}

test.serial('an answer that the gateway signed and that names the request ends the wait', async (t) => {
  answering(t, (digest, send) => {
    send(device, { digest: 'A'.repeat(43), ok: false, code: 'internal_error' })
    const forger = generateKeyPair()
    voiceOf({ kid: kidOfKey(forger.publicKey), key: forger.privateKey })(device, {
      digest,
      ok: false,
      code: 'not_owner',
    })
    send(device, { digest, ok: true, result: { trust_level: 'approved' } })
  })
  const edge = await enter(t)
  await bus.nc.flush()
  const answer = await edge.ask('status', request(), { timeoutMs: 30_000, verify })
  t.like(answer, { ok: true, result: { trust_level: 'approved' } })
})

test.serial('answer_timeout: nobody answers, or nobody whom we trust', async (t) => {
  const edge = await enter(t)
  const timeout = await t.throwsAsync(edge.ask('status', request(), { timeoutMs: 200, verify }), {
    instanceOf: CodedError,
  })
  t.is(timeout?.code, 'answer_timeout')
  const forger = generateKeyPair()
  answering(t, (digest) => {
    voiceOf({ kid: kidOfKey(forger.publicKey), key: forger.privateKey })(device, { digest, ok: true, result: {} })
  })
  await bus.nc.flush()
  const forged = await t.throwsAsync(edge.ask('status', request(), { timeoutMs: 500, verify }), {
    instanceOf: CodedError,
  })
  t.is(forged?.code, 'answer_timeout')
})

test.serial('connection_refused and gateway_unreachable tell an unproven key from an absent gateway', async (t) => {
  const refused = await t.throwsAsync(enter(t, { ...device, keys: generateKeyPair() }), { instanceOf: CodedError })
  t.is(refused?.code, 'connection_refused')
  const gone = connectEdge({
    url: 'nats://127.0.0.1:1',
    gatewayId: stack.descriptor.gateway_id,
    ...{ kid: device.kid, lenser: device.lenser, key: device.keys.privateKey },
  })
  t.is((await t.throwsAsync(gone, { instanceOf: CodedError }))?.code, 'gateway_unreachable')
})

test.serial(
  'gateway_unreachable: nothing is published into the void; the connection comes back by itself',
  async (t) => {
    const edge = await enter(t)
    await stack.nats.kill9()
    await new Promise<void>((resolve) => {
      if (edge.isConnected()) edge.events.once('disconnected', resolve)
      else resolve()
    })
    const publish = () => edge.publish(`ltg.v1.in.${device.lenser}.${device.kid}.heartbeat`, request())
    t.is(t.throws(publish, { instanceOf: CodedError })?.code, 'gateway_unreachable')
    const back = new Promise<void>((resolve) => edge.events.once('connected', resolve))
    await stack.nats.restart()
    await back
    t.notThrows(publish)
    // The tests that follow need it, and it comes back when it does.
    await until('the worker is back', () => bus.isConnected())
  },
)

test.serial('a listener bounds what is under way, drops the rest, and finishes what it began', async (t) => {
  const gate = Promise.withResolvers<void>()
  const dropped: string[] = []
  const listening = listen({
    bus,
    subjects: ['ltg.v1.ask.*.*.status'],
    queue: 'registrar',
    maxInFlight: 2,
    logger: silent,
    onMessage: async ({ data }) => {
      await gate.promise
      if (data.length % 2 === 0) throw new RangeError('this one fails')
    },
    onDropped: ({ subject }) => dropped.push(subject),
  })
  const edge = await enter(t)
  await bus.nc.flush()
  for (let n = 0; n < 10; n++) edge.publish(`ltg.v1.ask.${device.lenser}.${device.kid}.status`, new Uint8Array(n))
  while (dropped.length < 6) await new Promise((resolve) => setTimeout(resolve, 10))
  t.like(listening.stats(), { inFlight: 2, waiting: 2, dropped: 6 })
  const stopped = listening.stop()
  gate.resolve()
  await stopped
  t.like(listening.stats(), { inFlight: 0, waiting: 0, handled: 4 })
})
