import { signEnvelope } from '@lenserfight/envelope'
import { ensureNatsServer, readEnvironment, type WantedServer } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { inboxPrefix, type ServiceName } from '@lenserfight/schemas'
import type { Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import { connect, errors, type NatsConnection, nkeyAuthenticator } from '@nats-io/transport-node'

/** Broker, database, provisioner and broker-auth: the first wall, with nobody behind it. */
export const startDoor = async (want: WantedServer): Promise<Stack> => {
  const nats = await ensureNatsServer({ env: readEnvironment(), want })
  return testStack({
    nats,
    replicas: { registrar: 0, verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 },
  })
}

/** A bare connection of a device or session, admitted by the auth callout: it can write headers and reply subjects. */
export const connectAs = (stack: Stack, { kid, keys }: Signatory, withKey = false): Promise<NatsConnection> => {
  const public_key = Buffer.from(keys.publicKey).toString('base64url')
  return connect({
    servers: stack.nats.url,
    reconnect: false,
    authenticator: (nonce) => {
      const aud = stack.descriptor.gateway_id
      const body = { kind: 'connect', aud, server_nonce: nonce ?? '', ...(withKey ? { public_key } : {}) }
      const { bytes } = signEnvelope({ kid, key: keys.privateKey, body })
      return { auth_token: Buffer.from(bytes).toString('utf8'), sig: 'any' }
    },
  })
}

export const connectWithSeed = (stack: Stack, seed: string, prefix?: string): Promise<NatsConnection> =>
  connect({
    servers: stack.nats.url,
    reconnect: false,
    ...(prefix === undefined ? {} : { inboxPrefix: prefix }),
    authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)),
  })

/** A bare connection with a worker's own key. */
export const connectWorker = (stack: Stack, service: ServiceName): Promise<NatsConnection> =>
  connectWithSeed(stack, stack.busUser(service).seed, inboxPrefix(service))

export interface Tried {
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
}

/** Tries to publish to and subscribe every subject; returns those that the broker let through. */
export const allowedOf = async (nc: NatsConnection, { publish, subscribe }: Tried): Promise<Tried> => {
  const refused = { publish: new Set<string>(), subscription: new Set<string>() }
  const statuses = nc.status()
  const noting = (async () => {
    for await (const status of statuses) {
      const error = status.type === 'error' ? status.error : undefined
      if (error instanceof errors.PermissionViolationError) refused[error.operation].add(error.subject)
    }
  })()
  const subscriptions = subscribe.map((subject) => nc.subscribe(subject, { callback: () => {} }))
  for (const subject of publish) nc.publish(subject, 'probe')
  // The broker tells of a violation before it answers a ping that came later.
  await nc.flush()
  await new Promise((resolve) => setTimeout(resolve, 50))
  for (const subscription of subscriptions) subscription.unsubscribe()
  ;(statuses as unknown as { stop(): void }).stop()
  await noting
  return {
    publish: publish.filter((subject) => !refused.publish.has(subject)),
    subscribe: subscribe.filter((subject) => !refused.subscription.has(subject)),
  }
}
