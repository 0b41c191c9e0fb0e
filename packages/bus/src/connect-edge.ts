import { createSigner, envelopeDigest, type PrivateKey } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import { type AnswerBody, askSubject, CodedError, type ConnectBody, limits, outSubject } from '@lenserfight/schemas'
import { type Authenticator, errors } from '@nats-io/transport-node'
import { type Connection, type ConnectionEvents, openConnection } from './connection.ts'
import { edgeReconnect, type ReconnectTiming } from './reconnect.ts'

export interface EdgeConnection {
  readonly url: string
  readonly gatewayId: string
  /** The device's id, or the id of the session's key. */
  readonly kid: string
  readonly key: PrivateKey
  /** The account; `nilUuid` for a session that has not logged in yet. */
  readonly lenser: string
  /** Sends the public key along: a session's first connect, when nobody knows its key yet. */
  readonly includePublicKey?: boolean
  readonly logger?: Logger
  readonly reconnect?: ReconnectTiming
  /** Waits for a gateway that cannot be reached, and for one that refuses, instead of throwing. */
  readonly waitForGateway?: boolean
  /** Unix milliseconds, by the gateway's time as far as it is known. */
  readonly now?: () => number
}

/** What comes in on one's own `out` and `ctl` subjects. Unverified: see `verifyGatewayMessage`. */
export type EdgeListener = (message: { subject: string; bytes: Uint8Array }) => void

export interface AskOptions {
  readonly timeoutMs: number
  /** Proves that an answer is the gateway's (`verifyGatewayMessage`) and reads it; what it throws on is passed over. */
  readonly verify: (bytes: Uint8Array) => AnswerBody
}

/** An edge's connection: its doors, and what comes back. */
export interface EdgeBus {
  readonly events: Connection['events']
  readonly isConnected: () => boolean
  /** @throws CodedError `gateway_unreachable` while the gateway is gone: what must not be lost waits in the outbox */
  readonly publish: (subject: string, bytes: Uint8Array) => void
  /** Hears the `out` subjects of this key, which are subscribed from the start. Returns its end. */
  readonly onMessage: (listener: EdgeListener) => () => void
  /** Hears one further subject. Returns its end. */
  readonly subscribe: (subject: string, listener: EdgeListener) => () => void
  /**
   * Sends a request to the `ask` door and waits for the answer that names its digest.
   * @throws CodedError `answer_timeout`, `gateway_unreachable`
   */
  readonly ask: (kind: string, bytes: Uint8Array, options: AskOptions) => Promise<AnswerBody>
  /** Connects anew: permissions are fixed at connect, and the state may have changed. */
  readonly reconnect: () => Promise<void>
  readonly close: () => Promise<void>
}
export type { ConnectionEvents }

/** Signs the server's nonce into a `connect` envelope, anew for every connection (protocol.md, Accounts). */
const authenticate = ({ kid, key, gatewayId, includePublicKey, now = Date.now }: EdgeConnection): Authenticator => {
  const signer = createSigner({ kid, key, now })
  const public_key = Buffer.from(signer.publicKey).toString('base64url')
  return (nonce) => {
    const body: ConnectBody = {
      kind: 'connect',
      aud: gatewayId,
      server_nonce: nonce ?? '',
      ...(includePublicKey ? { public_key } : {}),
    }
    const auth_token = Buffer.from(signer.sign({ body }).bytes).toString('utf8')
    // The server tells its nonce to whoever judges the connection only where a `sig` is sent; what it says is not read.
    return { auth_token, sig: 'envelope' }
  }
}

const asConnectError = (error: unknown): CodedError =>
  error instanceof errors.AuthorizationError
    ? new CodedError('connection_refused', undefined, { cause: error })
    : new CodedError('gateway_unreachable', undefined, { cause: error })

/**
 * Connects an edge; comes back by itself when the gateway is lost, with full jitter.
 * @throws CodedError `connection_refused` when the key is not admitted, `gateway_unreachable` when nobody is there
 */
export const connectEdge = async (edge: EdgeConnection): Promise<EdgeBus> => {
  const { lenser, kid, logger, reconnect: timing = edgeReconnect } = edge
  const options = {
    servers: [edge.url],
    authenticator: authenticate(edge),
    waitOnFirstConnect: edge.waitForGateway ?? false,
    timeout: 10_000,
  }
  const connection = await openConnection({ options, timing, logger }).catch((error: unknown) => {
    throw asConnectError(error)
  })
  const { nc, events, isConnected, reconnect, close } = connection
  const listeners = new Set<EdgeListener>()

  const subscribe = (subject: string, listener: EdgeListener): (() => void) => {
    const subscription = nc.subscribe(subject, {
      callback: (error, message) => {
        if (error) return logger?.warn({ event: 'subscription_refused', subject, err: error }, 'not allowed to listen')
        listener({ subject: message.subject, bytes: message.data })
      },
    })
    return () => subscription.unsubscribe()
  }
  subscribe(`ltg.v1.out.${lenser}.${kid}.*`, (message) => {
    for (const listener of [...listeners]) listener(message)
  })
  const onMessage = (listener: EdgeListener): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  }
  const publish = (subject: string, bytes: Uint8Array): void => {
    if (!isConnected()) throw new CodedError('gateway_unreachable')
    nc.publish(subject, bytes)
  }
  const ask = async (kind: string, bytes: Uint8Array, { timeoutMs, verify }: AskOptions): Promise<AnswerBody> => {
    const digest = Buffer.from(envelopeDigest(bytes)).toString('base64url')
    const answers = outSubject(lenser, kid, 'answer')
    const { promise, resolve, reject } = Promise.withResolvers<AnswerBody>()
    const timer = setTimeout(() => reject(new CodedError('answer_timeout')), timeoutMs)
    const end = onMessage((message) => {
      if (message.subject !== answers) return
      const answer = tryVerify(verify, message.bytes)
      if (answer?.digest === digest) resolve(answer)
    })
    try {
      publish(askSubject({ lenser, kid, kind }), bytes)
      return await promise
    } finally {
      clearTimeout(timer)
      end()
    }
  }
  return { events, isConnected, publish, onMessage, subscribe, ask, reconnect, close }
}

/** What does not verify is not from the gateway: whoever sent it must not end the wait for what is. */
const tryVerify = (verify: AskOptions['verify'], bytes: Uint8Array): AnswerBody | undefined => {
  if (bytes.length > limits.envelopeBytes) return undefined
  try {
    return verify(bytes)
  } catch {
    return undefined
  }
}
