import {
  connectGateway,
  createGatewayClient,
  createTrust,
  type GatewayClient,
  type GatewayTrust,
  resultOf,
  type TrustOptions,
} from '@lenserfight/daemon'
import { createSigner, type KeyPair } from '@lenserfight/envelope'
import { type AnswerBody, CodedError, type Descriptor, type KindName } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { descriptorOf } from '../descriptor.ts'
import { sayIfSlow } from '../waiting.ts'
import { type Credential, credentialOf, givenApiKey, storedSession, toldFor } from './credential.ts'

/** How long an owner's request is tried. */
export const requestMs = 20_000

/**
 * A person waits: back within a second where the broker left us, as it does when a session is ended from its own connection.
 * Never sooner than any edge.
 */
const reconnect = { floorMs: 500, firstCeilingMs: 1_000, ceilingMs: 30_000 }

/** An owner's conversation with the gateway, in the name of a session key or an API key. */
export interface Owner {
  readonly session: Pick<Credential, 'by' | 'kid' | 'lenser'>
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

interface Connected {
  readonly client: GatewayClient
  /** Asks as `GatewayClient.ask` does; undefined where the broker forbids it to this key. */
  readonly ask: (kind: KindName, body: object, deadlineMs: number) => Promise<AnswerBody | undefined>
  readonly trust: GatewayTrust
  readonly close: () => Promise<void>
}

/** Connects with a session's key. The key list that answers bring is kept. */
export const connectSession = async (options: SessionConnection): Promise<Connected> => {
  const { context, descriptor, kid, keys, lenser, includePublicKey = false } = options
  const settings = context.settings()
  const line = `lf: ${descriptor.url} has not answered yet; waiting.`
  const link = await sayIfSlow(context.output, line, () =>
    connectGateway({
      url: descriptor.url,
      gatewayId: descriptor.gateway_id,
      ...{ kid, lenser, includePublicKey, key: keys.privateKey, reconnect },
    }),
  )
  const onKeys: TrustOptions['onKeys'] = (choose) => settings.update('keys', choose)
  const trust = createTrust({ descriptor, keys: settings.get('keys'), onKeys })
  const signer = createSigner({ kid, key: keys.privateKey })
  const client = createGatewayClient({ link, signer, lenser, trust })
  const ask: Connected['ask'] = (kind, body, deadlineMs) => {
    const { promise: forbidden, resolve } = Promise.withResolvers<undefined>()
    link.onEvent((event) => event === 'forbidden' && resolve(undefined))
    const slow = `lf: the gateway has not answered yet; waiting up to ${Math.round(deadlineMs / 1000)} s.`
    return sayIfSlow(context.output, slow, () => Promise.race([client.ask(kind, body, { deadlineMs }), forbidden]))
  }
  return { client, ask, trust, close: link.close }
}

const speak = async (context: Context, credential: Credential, descriptor: Descriptor): Promise<Owner> => {
  const { by, kid, lenser } = credential
  const { client, ask, trust, close } = await connectSession({ context, descriptor, ...credential })
  const status = async (): Promise<void> => {
    const answer = await ask('status', { keys_number: trust.keysNumber() }, requestMs)
    if (answer !== undefined) resultOf(answer)
  }
  const request: Owner['request'] = async (kind, body) => {
    try {
      // Without a sign-in here nobody has told yet who speaks in the gateway's name; a status answer does.
      if (trust.keysNumber() === 0) await status()
      const answer = await ask(kind, body, requestMs)
      if (answer !== undefined) return resultOf(answer)
      // The broker forbade it without a word: the session may have ended meanwhile, or is not one that may.
      await status()
      throw new CodedError('not_permitted')
    } catch (error) {
      throw toldFor(credential, error)
    }
  }
  return { session: { by, kid, lenser }, descriptor, request, ask: client.ask, close }
}

/**
 * Connects as whoever is signed in, whatever is in the environment.
 * @throws CodedError as `connectOwner` does
 */
export const connectSignedIn = async (context: Context): Promise<Owner> => {
  const session = storedSession(context)
  const descriptor = descriptorOf(context)
  return speak(context, await credentialOf(context, session, descriptor), descriptor)
}

/**
 * Connects as LENSERFIGHT_API_KEY says, else as whoever is signed in.
 * @throws CodedError `api_key_invalid`, `not_signed_in`, `session_expired`, `descriptor_missing`, `descriptor_changed`,
 * `key_missing`, `gateway_unreachable`, `connection_refused`
 */
export const connectOwner = async (context: Context): Promise<Owner> => {
  const apiKey = givenApiKey(context)
  if (apiKey === undefined) return connectSignedIn(context)
  try {
    return await speak(context, apiKey, descriptorOf(context))
  } catch (error) {
    throw toldFor(apiKey, error)
  }
}

/** Does something in the name of a connection that `connect` makes, and hangs up whatever comes of it. */
const during = async <T>(owner: Owner, act: (owner: Owner) => Promise<T>): Promise<T> => {
  try {
    return await act(owner)
  } finally {
    await owner.close()
  }
}

/** Does something as the owner, and hangs up whatever comes of it. */
export const asOwner = async <T>(context: Context, act: (owner: Owner) => Promise<T>): Promise<T> =>
  during(await connectOwner(context), act)

/** The same as whoever is signed in, whatever is in the environment. */
export const asSignedIn = async <T>(context: Context, act: (owner: Owner) => Promise<T>): Promise<T> =>
  during(await connectSignedIn(context), act)
