import { InfrastructureError, type Logger, type NatsConfig, readSecret } from '@lenserfight/runtime'
import { errors, nkeyAuthenticator, type RequestError } from '@nats-io/transport-node'
import { toBusError } from './bus-error.ts'
import { type Connection, openConnection } from './connection.ts'
import { type ReconnectTiming, serviceReconnect } from './reconnect.ts'

/** Where the broker's answers to the system user come in; its permissions name it. */
export const systemInbox = '_INBOX_system'

/** How long a server may take to answer a kick, milliseconds. */
const kickTimeoutMs = 1000

/** `cut`: the connection was there. `gone`: it was not. `no_server`: no server with that id is to be reached. */
export type KickResult = 'cut' | 'gone' | 'no_server'

/** The system account's user, whose one right is to end a connection of the broker. */
export interface SystemBus extends Connection {
  /**
   * Ends a connection by its server's id and its number there.
   * @throws InfrastructureError when no answer came
   */
  readonly kick: (serverId: string, clientId: number) => Promise<KickResult>
}

export interface SystemConnection {
  /** `seed_file` holds the system user's NKey seed. */
  readonly nats: NatsConfig
  readonly logger: Logger
  readonly reconnect?: ReconnectTiming
}

const isNoResponders = (error: unknown): boolean =>
  error instanceof errors.RequestError && (error as RequestError).isNoResponders()

/**
 * Connects as the system user, waiting for the broker as long as it takes, and again whenever it is lost.
 * @throws CodedError `config_invalid` when the seed's file cannot be read
 */
export const connectSystem = async (wanted: SystemConnection): Promise<SystemBus> => {
  const { nats, logger, reconnect = serviceReconnect } = wanted
  const connection = await openConnection({
    timing: reconnect,
    logger,
    options: {
      servers: [...nats.servers],
      name: 'system',
      inboxPrefix: systemInbox,
      authenticator: nkeyAuthenticator(new TextEncoder().encode(readSecret(nats.seed_file))),
      waitOnFirstConnect: true,
    },
  })
  const { nc, isConnected } = connection
  const kick = async (serverId: string, clientId: number): Promise<KickResult> => {
    if (!isConnected()) throw new InfrastructureError('broker: not connected')
    try {
      const subject = `$SYS.REQ.SERVER.${serverId}.KICK`
      const answer = await nc.request(subject, JSON.stringify({ cid: clientId }), { timeout: kickTimeoutMs })
      return answer.json<{ error?: object }>().error === undefined ? 'cut' : 'gone'
    } catch (error) {
      if (isNoResponders(error)) return 'no_server'
      throw toBusError(error, 'kick')
    }
  }
  return { ...connection, kick }
}
