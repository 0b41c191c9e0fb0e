import { hash } from 'node:crypto'
import { canonicalize } from './canonicalize.ts'
import { publicKeyOf } from './keys.ts'
import { sodium } from './sodium.ts'
import type { PrivateKey, PublicKey } from './types.ts'
import { verifySignature } from './verify-signature.ts'

/** What a new key signs to prove that its holder wants it to be this device's key, in this one operation. */
export type KeyChange = {
  readonly kind: 'rotate' | 'reprove'
  /** The gateway's id. */
  readonly aud: string
  readonly device_id: string
  readonly op_id: string
  /** The key that it takes the place of, base64url; null for `reprove`, where that may be lost. */
  readonly old_public_key: string | null
  /** Base64url. */
  readonly new_public_key: string
}

/** No envelope has the member `purpose`, so a proof is never the signature of one, nor the other way round. */
const bytesOf = ({ kind, aud, device_id, op_id, old_public_key, new_public_key }: KeyChange): Uint8Array =>
  hash(
    'sha256',
    canonicalize({ aud, device_id, kind, new_public_key, old_public_key, op_id, purpose: 'ltg.v1.key-change' }),
    'buffer',
  )

/**
 * The new key's half of a change of keys (protocol.md, Device states): Ed25519 over the SHA-256 of the canonical form.
 * @returns 64 bytes as base64url
 * @throws TypeError where the key is not 32 bytes, or not the one that the change names
 */
export const signKeyProof = (change: KeyChange, newKey: PrivateKey): string => {
  if (Buffer.from(publicKeyOf(newKey)).toString('base64url') !== change.new_public_key) {
    throw new TypeError('the change names another key than the one that signs it')
  }
  const { secretKey } = sodium.expand(newKey)
  return Buffer.from(sodium.sign(bytesOf(change), secretKey)).toString('base64url')
}

/** Whether the new key of a change signed it. Never throws for what is no key or no signature. */
export const verifyKeyProof = (change: KeyChange, proof: string): boolean => {
  const key: PublicKey = Buffer.from(change.new_public_key, 'base64url')
  return verifySignature(key, bytesOf(change), Buffer.from(proof, 'base64url'))
}
