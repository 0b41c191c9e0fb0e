import { setTimeout as sleep } from 'node:timers/promises'
import type { Stack } from '@lenserfight/local/stack'
import { consumers, inboxPrefix, streams } from '@lenserfight/schemas'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect, nkeyAuthenticator } from '@nats-io/transport-node'

/** What the broker holds at one moment. */
export interface BrokerContent {
  /** Messages by stream. */
  readonly messages: Readonly<Record<string, number>>
  /** By consumer: delivered and not acknowledged, or not delivered yet. */
  readonly owed: number
}

/** Looks into the broker with the provisioner's credentials, the only ones that may look at every stream. */
export const readBroker = async (stack: Stack): Promise<BrokerContent> => {
  const nc = await connect({
    servers: stack.nats.url,
    authenticator: nkeyAuthenticator(new TextEncoder().encode(stack.busUser('provisioner').seed)),
    inboxPrefix: `${inboxPrefix('provisioner')}.look`,
  })
  try {
    const manager = await jetstreamManager(nc)
    const messages: Record<string, number> = {}
    for (const { name } of streams) messages[name] = (await manager.streams.info(name)).state.messages
    let owed = 0
    for (const { stream, name } of consumers) {
      const { num_ack_pending, num_pending } = await manager.consumers.info(stream, name)
      owed += num_ack_pending + num_pending
    }
    return { messages, owed }
  } finally {
    await nc.close()
  }
}

/**
 * Waits until the broker owes nobody anything: what was sent twice is worked off after the last operation is settled.
 * Returns what it holds then, or after the time is up.
 */
export const brokerAtRest = async (stack: Stack, timeoutMs = 30_000): Promise<BrokerContent> => {
  for (const end = Date.now() + timeoutMs; ; ) {
    const content = await readBroker(stack)
    if (content.owed === 0 || Date.now() > end) return content
    await sleep(100)
  }
}
