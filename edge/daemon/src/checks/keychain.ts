import { encodeKey, type KeyPair } from '@lenserfight/envelope'
import { type Keychain, readKeyPair } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'
import type { Enrolled } from '../settings.ts'
import type { Verdict } from './types.ts'

/**
 * The device's key pair: found, read, and the one that was registered.
 * @throws CodedError `keychain_unavailable`, `keychain_locked`, `keychain_refused`, `key_missing`
 */
export const readDeviceKeys = async (
  keychain: Keychain,
  { key_name, public_key }: Pick<Enrolled, 'key_name' | 'public_key'>,
): Promise<KeyPair> => {
  const keys = await readKeyPair(keychain, key_name)
  if (encodeKey(keys.publicKey) !== public_key) {
    throw new CodedError('key_missing', 'the key that is kept is not the one that was registered')
  }
  return keys
}

/** A name that nothing is kept under: some keychains show only when they are asked that there is none. */
const nothing = 'doctor-probe'

/**
 * The keychain: that it opens, and that the device's key can be read from it.
 * @throws CodedError as `open` and `readDeviceKeys` do
 */
export const checkKeychain = async (
  open: () => Promise<Keychain>,
  identity: Enrolled | undefined,
): Promise<Verdict> => {
  const keychain = await open()
  const { backend } = keychain
  const keptIn = backend === 'file' ? 'private files' : `the keychain (${backend})`
  const data = { backend, key: identity?.key_name ?? null }
  if (identity === undefined) await keychain.get(nothing)
  else await readDeviceKeys(keychain, identity)
  const detail = identity === undefined ? `${keptIn}: usable, no key yet` : `the device’s key is in ${keptIn}`
  if (backend !== 'file') return { ok: true, detail, data }
  const warning = 'keys are unencrypted in files (LF_GATEWAY_KEY_FILE_FALLBACK=1): for CI and development alone'
  return { ok: true, detail, warning, data }
}
