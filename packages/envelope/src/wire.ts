import { hash } from 'node:crypto'
import { decodeBase64Url } from './base64url.ts'
import type { Envelope } from './types.ts'

/** `,"v":1}`: what every canonical version 1 envelope ends with. */
const TAIL = Buffer.from(',"v":1}')
/** The length of `,"sig":"…"`, which stands right before the tail. */
const SIG_MEMBER = 95
const SIG_START = Buffer.from(',"sig":"')

/**
 * The bytes that an envelope's signature is about: the canonical form of its six other members (RFC-0003 §3), cut out
 * of the received bytes without parsing or rebuilding them.
 *
 * @param received a canonical envelope (see `readEnvelope`) with `v` 1 and `alg` ed25519
 * @throws TypeError where the bytes do not end as such an envelope does
 */
export function signedBytes(received: Uint8Array): Uint8Array {
  const cut = received.length - TAIL.length - SIG_MEMBER
  if (cut < 0 || !matchesAt(received, cut, SIG_START) || !matchesAt(received, cut + SIG_MEMBER, TAIL)) {
    throw new TypeError('these are not the bytes of a canonical version 1 envelope')
  }
  const signed = Buffer.allocUnsafe(cut + TAIL.length)
  signed.set(received.subarray(0, cut))
  signed.set(TAIL, cut)
  return signed
}

/** The SHA-256 of `signedBytes`: the 32 bytes that Ed25519 signs. Throws as `signedBytes` does. */
export function signingDigest(received: Uint8Array): Uint8Array {
  return hash('sha256', signedBytes(received), 'buffer')
}

/** The SHA-256 of an envelope's bytes as received, signature included: what claims and receipts name it by. */
export function envelopeDigest(received: Uint8Array): Uint8Array {
  return hash('sha256', received, 'buffer')
}

/**
 * The 64 bytes of an envelope's signature.
 *
 * @throws TypeError where `sig` is not 64 bytes as base64url, which `readEnvelope` rules out
 */
export function signatureBytes(envelope: Pick<Envelope, 'sig'>): Uint8Array {
  const bytes = decodeBase64Url(envelope.sig, 64)
  if (bytes === null) throw new TypeError('sig is not 64 bytes as base64url')
  return bytes
}

function matchesAt(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false
  return true
}
