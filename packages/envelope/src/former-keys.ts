import { encodeBase64Url } from './base64url.ts'
import { readEnvelope } from './read-envelope.ts'
import { checkSignature } from './steps/signature.ts'
import type { PublicKey } from './types.ts'
import { envelopeDigest } from './wire.ts'

/** A key that a device had before the one in force. */
export type FormerKey = {
  readonly publicKey: PublicKey
  /** What the broker stored until then counts, nanoseconds since 1970; null where nothing does any more. */
  readonly goodUntil: bigint | null
}

/** An envelope that a verifier let through. */
export type Claimed = {
  /** Its canonical text. */
  readonly text: string
  /** The digest that was claimed, base64url. */
  readonly digest: string
  /** The broker's store time, nanoseconds since 1970, as decimal digits. */
  readonly stored: string
}

/**
 * Did a former key sign it, and was it good when the broker stored it? `dead` is a race that the sender lost, and nobody's
 * fault; `none`, where the key in force did not sign it either, means that a verifier let through what nobody signed.
 */
export const judgeFormerKeys = (
  { text, digest, stored }: Claimed,
  keys: readonly FormerKey[],
): 'good' | 'dead' | 'none' => {
  const read = readEnvelope(text)
  if (!read.ok || encodeBase64Url(envelopeDigest(read.bytes)) !== digest) return 'none'
  const signed = keys.find(({ publicKey }) => checkSignature(read, publicKey) === null)
  if (signed === undefined) return 'none'
  return signed.goodUntil !== null && BigInt(stored) <= signed.goodUntil ? 'good' : 'dead'
}
