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
 * The key that signs receipts.
 * @throws CodedError `config_invalid` where it is none, is not the one that `kid` names, or is not for receipts
 */
export const readSigner = ({ seed_file, kid, uses }: SigningConfig): SigningKey => {
  const key = readKey(seed_file)
  if (kidOfKey(publicKeyOf(key)) !== kid) throw invalid('signing.kid is not that of the key')
  if (!(uses as readonly KeyUse[]).includes('receipt')) throw invalid('the signing key is not for receipts')
  return { kid, key }
}
