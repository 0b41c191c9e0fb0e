import { setTimeout as sleep } from 'node:timers/promises'
import { connectEdge, type EdgeBus, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { encodeKey, generateKeyPair, newUuidV7, type PrivateKey, signEnvelope } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { type AnswerBody, CodedError, inSubject, nilUuid } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { newSession, operation } from './_edge.ts'

interface Party {
  readonly kid: string
  readonly key: PrivateKey
  readonly lenser: string
}

const issueToken = async ({ issuer, descriptor }: Stack, nonce: string): Promise<string> => {
  const request = { client_secret: issuer.clientSecret, subject: 'whole path', nonce, audience: descriptor.gateway_id }
  const response = await fetch(`${issuer.url}/token`, { method: 'POST', body: JSON.stringify(request) })
  return ((await response.json()) as { id_token: string }).id_token
}

const setUp = async (t: ExecutionContext) => {
  t.timeout(180_000)
  const stack = await testStack({ replicas: { 'trust-evaluator': 0, 'sync-applier': 0 } })
  t.teardown(stack.stop)
  const { url, gateway_id: gatewayId } = stack.descriptor
  const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)

  const open = async (party: Party, includePublicKey = false): Promise<EdgeBus> => {
    const bus = await connectEdge({ url, gatewayId, ...party, includePublicKey })
    t.teardown(bus.close)
    return bus
  }
  const sign = (party: Party, kind: string, members: object): Uint8Array =>
    signEnvelope({ ...party, body: { kind, aud: gatewayId, ...members } }).bytes
  const ask = async (
    bus: EdgeBus,
    party: Party,
    kind: string,
    members: object = {},
    timeoutMs = 30_000,
  ): Promise<AnswerBody> =>
    bus.ask(kind, sign(party, kind, members), {
      timeoutMs,
      verify: (bytes) =>
        verifyGatewayMessage(bytes, list, { kind: 'answer', use: 'answer', to: party.kid, now: Date.now() }),
    })
  return { stack, open, ask, sign }
}

test('enrolment through every wall: sign in, register, answer the challenge, be approved', async (t) => {
  const { stack, open, ask, sign } = await setUp(t)
  const session = newSession()
  const first = await open(session, true)
  // Before its login a key has one request to make.
  const early = await t.throwsAsync(ask(first, session, 'list', {}, 3000), { instanceOf: CodedError })
  t.is((early as CodedError).code, 'answer_timeout')
  const login = await ask(first, session, 'login', {
    ...operation({ public_key: encodeKey(session.publicKey) }),
    token: await issueToken(stack, session.kid),
  })
  const owner = { ...session, lenser: login.result?.lenser_id as string }
  t.not(owner.lenser, nilUuid)
  t.is(login.result?.keys, stack.gatewayKeys.list)

  const owners = await open(owner)
  const { publicKey, privateKey } = generateKeyPair()
  const registered = await ask(owners, owner, 'register', {
    ...{ op_id: newUuidV7(), name: 'machine', device_type: 'ci', os: 'linux', capabilities: [] },
    public_key: encodeKey(publicKey),
  })
  const { device_id, challenge } = registered.result as { device_id: string; challenge: string }
  const device = { kid: device_id, key: privateKey, lenser: owner.lenser }
  const devices = await open(device)
  t.is((await ask(devices, device, 'status')).result?.trust_level, 'pending')
  const approve = () => ask(owners, owner, 'approve', operation({ device_id }))
  t.is((await approve()).code, 'awaiting_device_challenge')

  const answer = sign(device, 'challenge', operation({ device_id, challenge, counter: 1 }))
  devices.publish(inSubject({ ...device, kind: 'challenge' }), answer)
  for (const end = Date.now() + 60_000; !(await ask(devices, device, 'status')).result?.challenge_verified; ) {
    if (Date.now() > end) throw new Error('the challenge was not verified')
    await sleep(50)
  }
  t.is((await approve()).result?.trust_level, 'approved')
  t.is((await ask(devices, device, 'status')).result?.trust_level, 'approved')

  t.is((await ask(owners, owner, 'revoke', operation({ device_id }))).result?.trust_level, 'revoked')
  // Its connection is cut; it comes back to learn why.
  for (let level: unknown = 'approved'; level !== 'revoked'; ) {
    level = await ask(devices, device, 'status', {}, 3000).then(
      ({ result }) => result?.trust_level,
      () => sleep(100),
    )
  }
  t.pass()
})
