import { setTimeout as sleep } from 'node:timers/promises'
import { connectEdge, type EdgeBus, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { createSigner, encodeKey, generateKeyPair, newUuidV7, signKeyProof } from '@lenserfight/envelope'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { makeAccount, makeDevice, makeSession, type Signatory } from '@lenserfight/testkit'
import { type DeviceClient, speakOver } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { 'broker-auth': 2, 'trust-evaluator': 0, 'audit-chain': 0 } })
})
test.after.always(() => stack?.stop())

/** The bound, milliseconds. */
const bound = 1000

interface Edge {
  readonly bus: EdgeBus
  readonly client: DeviceClient
  /** When its connection was lost first, Unix milliseconds. */
  readonly lostAt: Promise<number>
  readonly isLost: () => boolean
}

const enter = async (t: ExecutionContext, signatory: Signatory): Promise<Edge> => {
  const { descriptor } = stack
  const { kid, lenser, keys } = signatory
  const bus = await connectEdge({
    ...{ url: descriptor.url, gatewayId: descriptor.gateway_id, kid, lenser, key: keys.privateKey },
  })
  const client = speakOver(bus, { descriptor, keyList: stack.gatewayKeys.list, signatory })
  t.teardown(client.close)
  let lost = false
  const lostAt = new Promise<number>((resolve) => {
    bus.events.once('disconnected', () => {
      lost = true
      resolve(Date.now())
    })
  })
  return { bus, client, lostAt, isLost: () => lost }
}

/** An account with its session, and with a device, both connected; and a device of somebody else. */
const household = async (t: ExecutionContext) => {
  const [session, device, foreign] = await withClient(stack.owner, async (client) => {
    const { lenser } = await makeAccount(client)
    const { lenser: other } = await makeAccount(client)
    return [
      await makeSession(client, lenser),
      await makeDevice(client, { lenser }),
      await makeDevice(client, { lenser: other }),
    ]
  })
  const [owner, edge, stranger] = [await enter(t, session), await enter(t, device), await enter(t, foreign)]
  return { session, device, owner, edge, stranger }
}

/** What the gateway says to a device that asks for its status, once it is back. */
const statusOf = async ({ bus }: Edge, { kid, keys }: Signatory): Promise<Record<string, unknown>> => {
  const { bytes } = createSigner({ kid, key: keys.privateKey }).sign({
    body: { kind: 'status', aud: stack.descriptor.gateway_id },
  })
  const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
  const verify = (answer: Uint8Array) =>
    verifyGatewayMessage(answer, list, { kind: 'answer', use: 'answer', to: kid, now: Date.now() })
  return (await bus.ask('status', bytes, { timeoutMs: 10_000, verify })).result as Record<string, unknown>
}

const isCut = async (t: ExecutionContext, { lostAt }: Edge, asked: number, what: string): Promise<void> => {
  const took = (await lostAt) - asked
  t.log(`${what}: cut ${took} ms after its owner sent the request`)
  t.true(took < bound, `${what}: ${took} ms`)
}

for (const [kind, level] of [
  ['revoke', 'revoked'],
  ['suspend', 'unhealthy'],
] as const) {
  test(`${kind}: an owner’s request cuts the device in under a second, and it comes back to learn why`, async (t) => {
    const { device, owner, edge, stranger } = await household(t)
    const back = new Promise((resolve) => edge.bus.events.once('connected', () => resolve(true)))
    const asked = Date.now()
    const { outcome } = await owner.client.send({ kind, device_id: device.kid })
    t.true(outcome.ok)
    await isCut(t, edge, asked, kind)
    await back
    t.is((await statusOf(edge, device)).trust_level, level)
    t.false(owner.isLost() || stranger.isLost(), 'nobody else')
  })
}

test('session_revoke: cuts the session that it ends, in under a second, and no other', async (t) => {
  const { session, owner, edge } = await household(t)
  const second = await withClient(stack.owner, (client) => makeSession(client, session.lenser))
  const other = await enter(t, second)
  const asked = Date.now()
  const { outcome } = await owner.client.send({ kind: 'session_revoke', session: second.kid })
  t.true(outcome.ok)
  await isCut(t, other, asked, 'another session')
  const again = Date.now()
  void owner.client.send({ kind: 'session_revoke', session: session.kid })
  await isCut(t, owner, again, 'the session itself')
  t.false(edge.isLost())
})

test('reprove: whoever holds the former key is cut in under a second', async (t) => {
  const { device, owner, edge } = await household(t)
  const { publicKey, privateKey } = generateKeyPair()
  const op_id = newUuidV7()
  const new_public_key = encodeKey(publicKey)
  const aud = stack.descriptor.gateway_id
  const change = { kind: 'reprove', aud, device_id: device.kid, op_id, old_public_key: null, new_public_key } as const
  const proof = signKeyProof(change, privateKey)
  const asked = Date.now()
  const sent = await owner.client.send({ kind: 'reprove', op_id, device_id: device.kid, new_public_key, proof })
  t.true(sent.outcome.ok)
  await isCut(t, edge, asked, 'reprove')
  const owned = await enter(t, { ...device, keys: { publicKey, privateKey } })
  await sleep(2500)
  t.false(owned.isLost(), 'the new key stays')
  t.false(edge.bus.isConnected(), 'the former key does not come back')
})

test('what an owner gives cuts nobody: approve, reinstate', async (t) => {
  const { device, owner, edge } = await household(t)
  t.true((await owner.client.send({ kind: 'suspend', device_id: device.kid })).outcome.ok)
  await edge.lostAt
  const suspended = await enter(t, device)
  t.true((await owner.client.send({ kind: 'reinstate', device_id: device.kid })).outcome.ok)
  await sleep(2500)
  t.false(suspended.isLost() || owner.isLost())
})
