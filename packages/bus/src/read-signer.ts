import { decodeKey, kidOfKey, publicKeyOf, type SigningKey } from '@lenserfight/envelope'
import { readSecret, type SigningConfig } from '@lenserfight/runtime'
import { CodedError, type KeyUse } from '@lenserfight/schemas'

const invalid = (detail: string, cause?: unknown): CodedError => new CodedError('config_invalid', detail, { cause })

const readKey = (file: string): Uint8Array => {
  const text = readSecret(file)
  try {
    return decodeKey(text)
  } catch (cause) {
    throw invalid('signing.seed_file holds no key', cause)
  }
}

/**
 * The key with which a service speaks in the gateway's name, for the uses that it needs.
 * @throws CodedError `config_invalid` where it is none, is not the one that `kid` names, or lacks a use
 */
export const readSigner = ({ seed_file, kid, uses }: SigningConfig, needed: readonly KeyUse[]): SigningKey => {
  const key = readKey(seed_file)
  if (kidOfKey(publicKeyOf(key)) !== kid) throw invalid('signing.kid is not that of the key')
  for (const use of needed) {
    if (!uses.includes(use)) throw invalid(`the signing key lacks the use ${use}`)
  }
  return { kid, key }
}
