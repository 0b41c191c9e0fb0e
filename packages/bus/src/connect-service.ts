import { type Logger, type NatsConfig, readSecret } from '@lenserfight/runtime'
import { inboxPrefix, type ServiceName } from '@lenserfight/schemas'
import { type JetStreamClient, jetstream, type PubAck } from '@nats-io/jetstream'
import { type MsgHdrs, nkeyAuthenticator } from '@nats-io/transport-node'
import { toBusError } from './bus-error.ts'
import { type Connection, openConnection } from './connection.ts'
import { type ReconnectTiming, serviceReconnect } from './reconnect.ts'

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
  const { nc, isConnected } = connection
  const js = jetstream(nc)

  const publish = async (subject: string, data: Uint8Array | string, headers?: MsgHdrs): Promise<PubAck> => {
    try {
      return await js.publish(subject, data, { retries: 1, ...(headers === undefined ? {} : { headers }) })
    } catch (error) {
      throw toBusError(error, 'publish')
    }
  }
  const tell = (subject: string, data: Uint8Array | string): void => {
    if (isConnected()) nc.publish(subject, data)
  }
  logger.info({ event: 'bus_connected', server: nc.getServer() }, 'connected to the broker')
  return { ...connection, service, js, publish, tell }
}
