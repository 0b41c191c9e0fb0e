import { isUint8Array } from 'node:util/types'
import { type Sodium, sodium } from './sodium.ts'
import type { PublicKey } from './types.ts'

/**
 * Whether a detached Ed25519 signature (RFC 8032) verifies under libsodium's strict rules: small-order and non-canonical
 * public keys, small-order R and S beyond the group order are refused. Implementations differ here; this is the rule everywhere.
 *
 * Never throws: what is no 32-byte key, no bytes or no 64-byte signature is false.
 *
 * @param message the bytes that were signed; for an envelope its `signingDigest`
 * @param using the build of libsodium, for tests and benchmarks
 */
export function verifySignature(
  publicKey: PublicKey,
  message: Uint8Array,
  signature: Uint8Array,
  using: Sodium = sodium,
): boolean {
  try {
    if (!isUint8Array(publicKey) || !isUint8Array(message) || !isUint8Array(signature)) return false
    if (publicKey.byteLength !== 32 || signature.byteLength !== 64) return false
    return using.verify(signature, message, publicKey) === true
  } catch {
    // Memory that the library cannot read, detached or shared: there is nothing in it that verifies.
    return false
  }
}
