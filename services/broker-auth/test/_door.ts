import { randomUUID } from 'node:crypto'
import { connectEdge, type EdgeBus } from '@lenserfight/bus'
import { generateKeyPair, kidOfKey } from '@lenserfight/envelope'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { CodedError, nilUuid } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import type { ExecutionContext } from 'ava'

/** Broker, database, provisioner and broker-auth: what a connection passes. */
export const doorOnly = { registrar: 0, verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 }

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

/**
 * Tries a subject, and then one that nobody may use: the broker tells of violations in order, so what it said of the
 * first is known once it has told of the second.
 */
const isLetThrough = async (bus: EdgeBus, subject: string, attempt: (subject: string) => void): Promise<boolean> => {
  const last = `nobody.${randomUUID()}`
  const forbidden: string[] = []
  const told = new Promise<void>((resolve) => {
    const note = (of: string): void => {
      forbidden.push(of)
      if (of !== last) return
      bus.events.off('forbidden', note)
      resolve()
    }
    bus.events.on('forbidden', note)
  })
  attempt(subject)
  attempt(last)
  await told
  return !forbidden.includes(subject)
}

/** Whether the broker lets this connection publish to a subject. */
export const mayPublish = (bus: EdgeBus, subject: string): Promise<boolean> =>
  isLetThrough(bus, subject, (one) => bus.publish(one, new Uint8Array(1)))

/** Whether the broker lets this connection subscribe to a subject. */
export const maySubscribe = (bus: EdgeBus, subject: string): Promise<boolean> =>
  isLetThrough(bus, subject, (one) => void bus.subscribe(one, () => {}))
