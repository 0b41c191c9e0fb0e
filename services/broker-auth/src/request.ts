import { readServerJwt } from './jwt.ts'
import { decodePublicNkey } from './nkey.ts'

/** What the broker asks: who is this connection, and what may it do? */
export interface CalloutRequest {
  /** Public NKey of the server that asks; the answer is addressed to it. */
  readonly serverId: string
  /** The server's number of this connection, by which it can be cut. */
  readonly clientId: number
  /** Public NKey under which the answer must admit the connection. */
  readonly userNkey: string
  /** The nonce that the server gave to this client; empty where the client sent no `sig`. */
  readonly serverNonce: string
  /** What the client sent as `auth_token`: unproven. */
  readonly token: string
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
const text = (value: unknown): string => (typeof value === 'string' ? value : '')

/**
 * Reads a request of the auth callout, checking the server's signature.
 * @returns undefined for what no server of ours sent: it gets no answer
 */
export const readRequest = (data: Uint8Array): CalloutRequest | undefined => {
  const claims = readServerJwt(Buffer.from(data).toString('latin1'))
  if (claims?.aud !== 'nats-authorization-request') return undefined
  const nats = record(claims.nats)
  const serverId = text(record(nats.server_id).id)
  const userNkey = text(nats.user_nkey)
  const client = record(nats.client_info)
  if (serverId !== claims.iss || decodePublicNkey(userNkey, 'user') === undefined) return undefined
  // Whom nobody could cut is not let in.
  if (!Number.isSafeInteger(client.id) || Number(client.id) < 1) return undefined
  return {
    serverId,
    clientId: Number(client.id),
    userNkey,
    serverNonce: text(client.nonce),
    token: text(record(nats.connect_opts).auth_token),
  }
}

/** Where a server expects its answer. Nothing else is ever answered, whatever a message says. */
const replyForm = /^\$SYS\._INBOX\.[A-Za-z0-9]{1,32}\.[A-Za-z0-9]{1,32}$/
export const isBrokerReply = (reply: string | undefined): reply is string =>
  reply !== undefined && replyForm.test(reply)
