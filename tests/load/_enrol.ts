import { connectEdge, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { encodeKey, generateKeyPair, kidOfKey, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { nilUuid } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import { connectClient, type DeviceClient, type Say } from '@lenserfight/testkit/device'

/** Requests of one person in flight: what the desk of one key takes without asking for patience. */
const ownersWindow = 24

/** One device on its way: when each step was done, milliseconds since the first began. */
export interface Enrolment {
  readonly kid: string
  readonly lenser: string
  readonly client: DeviceClient
  readonly approvedAfterMs: number
  readonly aliveAfterMs: number
}

const askIssuer = async ({ issuer, descriptor }: Stack, subject: string, nonce: string): Promise<string> => {
  const request = { client_secret: issuer.clientSecret, subject, nonce, audience: descriptor.gateway_id }
  const response = await fetch(`${issuer.url}/token`, { method: 'POST', body: JSON.stringify(request) })
  return ((await response.json()) as { id_token: string }).id_token
}

/** A person signs in with a token of the stack's issuer: the session's first connect reaches its login alone. */
export const signIn = async (stack: Stack, subject: string): Promise<Signatory> => {
  const { url, gateway_id: aud } = stack.descriptor
  const keys = generateKeyPair()
  const kid = kidOfKey(keys.publicKey)
  const bus = await connectEdge({
    ...{ url, gatewayId: aud, kid, key: keys.privateKey, lenser: nilUuid },
    includePublicKey: true,
    waitForGateway: true,
  })
  try {
    const token = await askIssuer(stack, subject, kid)
    const body = { kind: 'login', aud, op_id: newUuidV7(), public_key: encodeKey(keys.publicKey), token }
    const list = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
    const answer = await bus.ask('login', signEnvelope({ kid, key: keys.privateKey, body }).bytes, {
      timeoutMs: 20_000,
      verify: (bytes) => verifyGatewayMessage(bytes, list, { kind: 'answer', use: 'answer', to: kid, now: Date.now() }),
    })
    return { kid, lenser: answer.result?.lenser_id as string, keys }
  } finally {
    await bus.close()
  }
}

/** Says it and returns its result; throws with the code of a refusal. */
const resultOf = async (client: DeviceClient, say: Say): Promise<Readonly<Record<string, unknown>>> => {
  const { outcome } = await client.send(say)
  if (!outcome.ok) throw new Error(`${say.kind}: ${outcome.code}`)
  return outcome.result ?? {}
}

/**
 * One machine, all the way: registered with its key, connected, its challenge answered, approved by its owner, connected
 * with the rights of now, its first heartbeat accepted.
 */
const enrolOne = async (stack: Stack, owner: DeviceClient, name: string, begun: number): Promise<Enrolment> => {
  const { lenser } = owner.signatory
  const keys = generateKeyPair()
  const registration = { name, device_type: 'ci', os: 'linux', public_key: encodeKey(keys.publicKey), capabilities: [] }
  const registered = await resultOf(owner, { kind: 'register', ...registration })
  const { device_id, challenge } = registered as { device_id: string; challenge: string }
  const { descriptor, gatewayKeys } = stack
  const client = await connectClient({
    ...{ descriptor, keyList: gatewayKeys.list, signatory: { kid: device_id, lenser, keys } },
    waitForGateway: true,
  })
  await resultOf(client, { kind: 'challenge', device_id, challenge })
  await resultOf(owner, { kind: 'approve', device_id })
  const approvedAfterMs = performance.now() - begun
  await client.reconnect()
  await resultOf(client, { kind: 'heartbeat', daemon_version: 'load', gateway_status: 'connected' })
  return { kid: device_id, lenser, client, approvedAfterMs, aliveAfterMs: performance.now() - begun }
}

/** Enrols `perOwner` machines of each of `owners` people, all at once. */
export const enrolMany = async (
  stack: Stack,
  { owners, perOwner }: { owners: number; perOwner: number },
): Promise<{ enrolments: Enrolment[]; signInMs: number; elapsedMs: number; refused: Record<string, number> }> => {
  const { descriptor, gatewayKeys } = stack
  const before = performance.now()
  const people = await Promise.all(Array.from({ length: owners }, (_, n) => signIn(stack, `load-${n}`)))
  const clients = await Promise.all(
    people.map((signatory) =>
      connectClient({
        ...{ descriptor, keyList: gatewayKeys.list, signatory, window: ownersWindow },
        waitForGateway: true,
      }),
    ),
  )
  const begun = performance.now()
  const enrolments = await Promise.all(
    clients.flatMap((owner) =>
      Array.from({ length: perOwner }, (_, n) => enrolOne(stack, owner, `machine ${n}`, begun)),
    ),
  )
  const elapsedMs = performance.now() - begun
  const refused: Record<string, number> = {}
  for (const client of [...clients, ...enrolments.map((each) => each.client)]) {
    for (const [code, count] of Object.entries(client.stats().refused)) refused[code] = (refused[code] ?? 0) + count
  }
  await Promise.all(clients.map((client) => client.close()))
  return { enrolments, signInMs: begun - before, elapsedMs, refused }
}
