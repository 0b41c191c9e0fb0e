import { InfrastructureError, type Logger, type NatsConfig, readSecret } from '@lenserfight/runtime'
import { inboxPrefix, type ServiceName } from '@lenserfight/schemas'
import { type JetStreamClient, jetstream, type PubAck } from '@nats-io/jetstream'
import { type MsgHdrs, nkeyAuthenticator } from '@nats-io/transport-node'
import { toBusError } from './bus-error.ts'
import { type Connection, openConnection } from './connection.ts'
import { type ReconnectTiming, serviceReconnect } from './reconnect.ts'

/** How long a stream may take to acknowledge, milliseconds. */
const publishTimeoutMs = 5000

/** A worker's connection to the broker. */
export interface Bus extends Connection {
  readonly service: ServiceName
  readonly js: JetStreamClient
  /**
   * Publishes to a stream and waits for its acknowledgement.
   * @throws InfrastructureError when there is none
   */
  readonly publish: (subject: string, data: Uint8Array | string, headers?: MsgHdrs) => Promise<PubAck>
  /** Publishes a plain message, dropped while the broker is gone: nothing rests on its arrival. */
  readonly tell: (subject: string, data: Uint8Array | string) => void
}

export interface ServiceConnection {
  readonly service: ServiceName
  readonly nats: NatsConfig
  readonly logger: Logger
  readonly reconnect?: ReconnectTiming
}

/**
 * Connects a worker with its NKey, waiting for the broker as long as it takes, and again whenever it is lost.
 * @throws CodedError `config_invalid` when the seed's file cannot be read
 */
export const connectService = async (wanted: ServiceConnection): Promise<Bus> => {
  const { service, nats, logger, reconnect = serviceReconnect } = wanted
  const connection = await openConnection({
    timing: reconnect,
    logger,
    options: {
      servers: [...nats.servers],
      name: service,
      inboxPrefix: inboxPrefix(service),
      authenticator: nkeyAuthenticator(new TextEncoder().encode(readSecret(nats.seed_file))),
      waitOnFirstConnect: true,
    },
  })
  const { nc, events, isConnected } = connection
  const js = jetstream(nc, { timeout: publishTimeoutMs })
  // The client leaves requests to their timeout when the connection is lost; nobody should wait for what cannot come.
  const waiting = new Set<(error: Error) => void>()
  events.on('disconnected', () => {
    for (const reject of waiting) reject(new InfrastructureError('broker: connection lost while publishing'))
  })

  const publish = async (subject: string, data: Uint8Array | string, headers?: MsgHdrs): Promise<PubAck> => {
    if (!isConnected()) throw new InfrastructureError('broker: not connected')
    const { promise: lost, reject } = Promise.withResolvers<never>()
    waiting.add(reject)
    try {
      const stored = js.publish(subject, data, { retries: 1, ...(headers === undefined ? {} : { headers }) })
      return await Promise.race([stored, lost])
    } catch (error) {
      throw toBusError(error, 'publish')
    } finally {
      waiting.delete(reject)
    }
  }
  const tell = (subject: string, data: Uint8Array | string): void => {
    if (isConnected()) nc.publish(subject, data)
  }
  logger.info({ event: 'bus_connected', server: nc.getServer() }, 'connected to the broker')
  return { ...connection, service, js, publish, tell }
}
