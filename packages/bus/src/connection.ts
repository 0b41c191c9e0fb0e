import { EventEmitter } from 'node:events'
import type { Logger } from '@lenserfight/runtime'
import { type ConnectionOptions, connect, errors, type NatsConnection } from '@nats-io/transport-node'
import { planReconnects, type ReconnectTiming } from './reconnect.ts'

/**
 * What happens to a connection. `refused`: the broker did not admit this key, and is asked again. `forbidden`: it did,
 * and refused one publish or subscribe, on that subject.
 */
export interface ConnectionEvents {
  connected: []
  disconnected: []
  refused: []
  forbidden: [subject: string]
}

/** A connection that comes back by itself, for ever. */
export interface Connection {
  readonly nc: NatsConnection
  readonly events: EventEmitter<ConnectionEvents>
  readonly isConnected: () => boolean
  /** Connects anew. From the call on it counts as disconnected: what went out on the old connection may be forbidden there. */
  readonly reconnect: () => Promise<void>
  /** Finishes what is in flight and closes; at once when the broker is gone. */
  readonly close: () => Promise<void>
}

interface Opening {
  readonly options: ConnectionOptions
  readonly timing: ReconnectTiming
  readonly logger?: Logger | undefined
}

/** Watches what the client reports and turns it into events; ends with the connection. */
const watch = async (nc: NatsConnection, on: (type: string, error?: Error) => void): Promise<void> => {
  for await (const status of nc.status()) on(status.type, status.type === 'error' ? status.error : undefined)
}

/** The client takes TLS where the server offers it, whatever the address says: whoever sits in between could just not offer it. */
const demandsTls = (servers: ConnectionOptions['servers']): boolean =>
  [servers ?? []].flat().some((server) => /^tls:\/\//i.test(server))

/**
 * Opens a connection with the house's settings. An address `tls://…` is never spoken to in the clear.
 * @throws the client's own error when the first connection fails and `waitOnFirstConnect` is not set
 */
export const openConnection = async ({ options, timing, logger }: Opening): Promise<Connection> => {
  const plan = planReconnects(timing)
  const nc = await connect({
    pingInterval: 10_000,
    maxReconnectAttempts: -1,
    // A refusal is asked about again: keys are approved and databases come back while the client waits.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    ...(demandsTls(options.servers) ? { tls: {} } : {}),
    ...options,
    reconnectDelayHandler: plan.delay,
  })
  plan.connected()
  const events = new EventEmitter<ConnectionEvents>()
  events.setMaxListeners(50)
  let connected = true

  void watch(nc, (type, error) => {
    if (type === 'disconnect' && connected) {
      connected = false
      logger?.warn({ event: 'bus_disconnected' }, 'the broker is gone')
      events.emit('disconnected')
    } else if (type === 'reconnect') {
      connected = true
      plan.connected()
      logger?.info({ event: 'bus_connected' }, 'the broker is back')
      events.emit('connected')
    } else if (error instanceof errors.AuthorizationError) {
      logger?.warn({ event: 'bus_refused' }, 'the broker did not admit this key')
      events.emit('refused')
    } else if (error instanceof errors.PermissionViolationError) {
      const { operation, subject } = error
      logger?.error({ event: 'bus_forbidden', operation, subject }, 'the broker forbade an operation')
      events.emit('forbidden', subject)
    }
  })

  const isConnected = (): boolean => connected && !nc.isClosed()
  const reconnect = async (): Promise<void> => {
    if (connected) {
      connected = false
      events.emit('disconnected')
      plan.leaving()
    }
    await nc.reconnect()
  }
  const close = async (): Promise<void> => {
    if (nc.isClosed()) return
    if (isConnected()) await nc.drain().catch(() => nc.close())
    else await nc.close()
  }
  return { nc, events, isConnected, reconnect, close }
}
