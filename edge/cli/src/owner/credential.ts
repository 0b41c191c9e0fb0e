import type { KeyPair } from '@lenserfight/envelope'
import { readKeyPair } from '@lenserfight/keychain'
import { CodedError, type Descriptor } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { keyNameOf, readProfile, type Session } from '../profile.ts'
import { readApiKey } from './api-key.ts'

/** Who speaks for the account: the key that signs, and where it came from. */
export interface Credential {
  readonly by: 'session' | 'api_key'
  readonly kid: string
  readonly lenser: string
  readonly keys: KeyPair
}

/**
 * The key of a stored session.
 * @throws CodedError `session_expired`, `descriptor_changed`, `not_signed_in` where its key is gone
 */
export const credentialOf = async (
  context: Context,
  { kid, lenser, expires_at, gateway_id }: Session,
  descriptor: Descriptor,
): Promise<Credential> => {
  if (expires_at * 1000 <= Date.now()) throw new CodedError('session_expired')
  if (descriptor.gateway_id !== gateway_id) throw new CodedError('descriptor_changed', 'sign in again')
  const keys = await readKeyPair(await context.keychain(), keyNameOf(kid)).catch((cause: unknown) => {
    // For a session the way out is another than for a device.
    throw cause instanceof CodedError && cause.code === 'key_missing'
      ? new CodedError('not_signed_in', undefined, { cause })
      : cause
  })
  return { by: 'session', kid, lenser, keys }
}

/** LENSERFIGHT_API_KEY, which goes before a stored session. @throws CodedError `api_key_invalid` */
export const givenApiKey = (context: Context): Credential | undefined => {
  const text = context.config.apiKey()
  return text === undefined ? undefined : { by: 'api_key', ...readApiKey(text) }
}

/** @throws CodedError `not_signed_in` where nobody is */
export const storedSession = (context: Context): Session => {
  const { session } = readProfile(context.edge.profileFile)
  if (session === undefined) throw new CodedError('not_signed_in')
  return session
}

/** What a refusal of an API key means to whoever gave it: signing in is not the way out. */
const apiKeyHints: Readonly<Record<string, string>> = {
  session_expired: 'it is the API key of LENSERFIGHT_API_KEY that ended: make another',
  unknown_session: 'the API key of LENSERFIGHT_API_KEY: make another',
  connection_refused: 'this gateway does not know the API key of LENSERFIGHT_API_KEY',
  not_permitted: 'LENSERFIGHT_API_KEY is in use: unset it for this',
}

/** The same failure, told for the credential that it befell. */
export const toldFor = ({ by }: Pick<Credential, 'by'>, error: unknown): unknown => {
  if (by !== 'api_key' || !(error instanceof CodedError) || error.detail !== undefined) return error
  const hint = apiKeyHints[error.code]
  return hint === undefined ? error : new CodedError(error.code, hint, { cause: error })
}
