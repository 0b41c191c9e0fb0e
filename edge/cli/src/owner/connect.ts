import {
  connectGateway,
  createGatewayClient,
  createTrust,
  type GatewayClient,
  resultOf,
  type TrustOptions,
} from '@lenserfight/daemon'
import { createSigner, type KeyPair } from '@lenserfight/envelope'
import { readKeyPair } from '@lenserfight/keychain'
import { CodedError, type Descriptor, type KindName } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { keyNameOf, readProfile, type Session } from '../profile.ts'

/** How long an owner's request is tried. */
export const requestMs = 20_000

/** An owner's conversation with the gateway, in the name of a session key. */
export interface Owner {
  readonly session: Session
  readonly descriptor: Descriptor
  /** @throws CodedError the refusal's code, `answer_timeout` */
  readonly request: (kind: KindName, body: object) => Promise<Readonly<Record<string, unknown>>>
  /** The signed answer as it came, refusal or not. */
  readonly ask: GatewayClient['ask']
  readonly close: () => Promise<void>
}

export interface SessionConnection {
  readonly context: Context
  readonly descriptor: Descriptor
  readonly kid: string
  readonly keys: KeyPair
  readonly lenser: string
  readonly includePublicKey?: boolean
}

/** Connects with a session's key. The key list that answers bring is kept. */
export const connectSession = async (
  options: SessionConnection,
): Promise<{ client: GatewayClient; close: () => Promise<void> }> => {
  const { context, descriptor, kid, keys, lenser, includePublicKey = false } = options
  const settings = context.settings()
  const link = await connectGateway({
    url: descriptor.url,
    gatewayId: descriptor.gateway_id,
    ...{ kid, lenser, includePublicKey, key: keys.privateKey },
  })
  const onKeys: TrustOptions['onKeys'] = (choose) => settings.update('keys', choose)
  const trust = createTrust({ descriptor, keys: settings.get('keys'), onKeys })
  const signer = createSigner({ kid, key: keys.privateKey })
  return { client: createGatewayClient({ link, signer, lenser, trust }), close: link.close }
}

/**
 * Connects as whoever is signed in.
 * @throws CodedError `not_signed_in`, `session_expired`, `descriptor_missing`, `descriptor_changed`, `key_missing`,
 * `gateway_unreachable`, `connection_refused`
 */
export const connectOwner = async (context: Context): Promise<Owner> => {
  const { session } = readProfile(context.edge.profileFile)
  if (session === undefined) throw new CodedError('not_signed_in')
  if (session.expires_at * 1000 <= Date.now()) throw new CodedError('session_expired')
  const descriptor = context.settings().get('descriptor')
  if (descriptor === undefined) throw new CodedError('descriptor_missing')
  if (descriptor.gateway_id !== session.gateway_id) throw new CodedError('descriptor_changed', 'sign in again')
  const { kid, lenser } = session
  const keys = await readKeyPair(await context.keychain(), keyNameOf(kid)).catch((cause: unknown) => {
    // For a session the way out is another than for a device.
    throw cause instanceof CodedError && cause.code === 'key_missing'
      ? new CodedError('not_signed_in', undefined, { cause })
      : cause
  })
  const { client, close } = await connectSession({ context, descriptor, kid, keys, lenser })
  return {
    session,
    descriptor,
    request: async (kind, body) => resultOf(await client.ask(kind, body, { deadlineMs: requestMs })),
    ask: client.ask,
    close,
  }
}

/** Does something as the owner, and hangs up whatever comes of it. */
export const asOwner = async <T>(context: Context, act: (owner: Owner) => Promise<T>): Promise<T> => {
  const owner = await connectOwner(context)
  try {
    return await act(owner)
  } finally {
    await owner.close()
  }
}
