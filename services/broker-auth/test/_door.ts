import { connectEdge, type EdgeBus } from '@lenserfight/bus'
import { generateKeyPair, kidOfKey } from '@lenserfight/envelope'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { CodedError, nilUuid } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import type { ExecutionContext } from 'ava'

/** Broker, database, provisioner and broker-auth: what a connection passes. */
export const doorOnly = { registrar: 0, verifier: 0, 'trust-evaluator': 0, 'audit-chain': 0 }

export const asOwner = <T>(stack: Stack, use: (client: PgClient) => Promise<T>): Promise<T> =>
  withClient(stack.owner, use)

export interface Knock {
  readonly now?: () => number
  readonly gatewayId?: string
  readonly includePublicKey?: boolean
}

/** Connects a signatory; closed with the test. */
export const enter = async (
  t: ExecutionContext,
  stack: Stack,
  { kid, lenser, keys }: Signatory,
  knock: Knock = {},
): Promise<EdgeBus> => {
  const bus = await connectEdge({
    url: stack.nats.url,
    gatewayId: stack.descriptor.gateway_id,
    kid,
    lenser,
    key: keys.privateKey,
    reconnect: { floorMs: 20, firstCeilingMs: 50, ceilingMs: 500 },
    ...knock,
  })
  t.teardown(bus.close)
  return bus
}

/** The code with which a connection is refused; undefined when it is admitted. */
export const refusalOf = async (
  t: ExecutionContext,
  stack: Stack,
  who: Signatory,
  knock?: Knock,
): Promise<string | undefined> => {
  try {
    await enter(t, stack, who, knock)
    return undefined
  } catch (error) {
    if (error instanceof CodedError) return error.code
    throw error
  }
}

/** A session key that nobody vouched for yet. */
export const makeStranger = (): Signatory => {
  const keys = generateKeyPair()
  return { kid: kidOfKey(keys.publicKey), lenser: nilUuid, keys }
}

/** Whether the broker lets this connection publish to a subject: it tells of a violation before it answers the ping. */
export const mayPublish = async (bus: EdgeBus, subject: string): Promise<boolean> => {
  let forbidden = false
  const note = (): void => {
    forbidden = true
  }
  bus.events.on('forbidden', note)
  bus.publish(subject, new Uint8Array(1))
  await new Promise((resolve) => setTimeout(resolve, 100))
  bus.events.off('forbidden', note)
  return !forbidden
}

/** Whether the broker lets this connection subscribe to a subject. */
export const maySubscribe = async (bus: EdgeBus, subject: string): Promise<boolean> => {
  let forbidden = false
  const note = (): void => {
    forbidden = true
  }
  bus.events.on('forbidden', note)
  bus.subscribe(subject, () => {})
  await new Promise((resolve) => setTimeout(resolve, 100))
  bus.events.off('forbidden', note)
  return !forbidden
}
