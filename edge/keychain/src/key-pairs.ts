import { decodeKey, encodeKey, generateKeyPair, type KeyPair, publicKeyOf } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import type { Keychain } from './keychain.ts'

/**
 * The key pair of that name.
 * @throws CodedError `key_missing` where there is none, or what is there is no key; and as `get` throws
 */
export const readKeyPair = async (keychain: Keychain, name: string): Promise<KeyPair> => {
  const secret = await keychain.get(name)
  if (secret === undefined) throw new CodedError('key_missing', name)
  let privateKey: Uint8Array
  try {
    privateKey = decodeKey(secret)
  } catch {
    // The error would name what was found, and that may be most of a key.
    throw new CodedError('key_missing', `what is kept as ${name} is no key`)
  }
  return { privateKey, publicKey: publicKeyOf(privateKey) }
}

/** The key pair of that name, made and kept where there is none: a step taken again changes nothing. */
export const ensureKeyPair = async (keychain: Keychain, name: string): Promise<KeyPair> => {
  if ((await keychain.get(name)) !== undefined) return readKeyPair(keychain, name)
  const pair = generateKeyPair()
  await keychain.set(name, encodeKey(pair.privateKey))
  return pair
}
