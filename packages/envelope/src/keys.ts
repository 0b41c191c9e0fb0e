import { hash, randomBytes } from 'node:crypto'
import { isUint8Array } from 'node:util/types'
import { decodeBase64Url, encodeBase64Url } from './base64url.ts'
import { EnvelopeError } from './errors.ts'
import { formatUuid } from './ids.ts'
import { sodium } from './sodium.ts'
import type { KeyPair, PrivateKey, PublicKey } from './types.ts'

const KEY_BYTES = 32

/** A new Ed25519 key pair (RFC-0003 §2.1). The private key is the only secret: it never leaves where it was made. */
export function generateKeyPair(): KeyPair {
  const privateKey = new Uint8Array(randomBytes(KEY_BYTES))
  return { publicKey: publicKeyOf(privateKey), privateKey }
}

/**
 * The public key of a private key (RFC 8032 §5.1.5).
 *
 * @throws TypeError where it is not 32 bytes
 */
export function publicKeyOf(privateKey: PrivateKey): PublicKey {
  return sodium.expand(checkKey(privateKey)).publicKey
}

/**
 * A raw 32-byte key as 43 base64url characters.
 *
 * @throws TypeError where it is not 32 bytes
 */
export function encodeKey(key: PublicKey | PrivateKey): string {
  return encodeBase64Url(checkKey(key))
}

/**
 * The raw key that `encodeKey` wrote. Whether a public key is one that libsodium accepts shows when it verifies.
 *
 * @throws EnvelopeError `malformed_body` where the text is not the one base64url encoding of 32 bytes
 */
export function decodeKey(text: string): Uint8Array {
  const key = typeof text === 'string' ? decodeBase64Url(text, KEY_BYTES) : null
  if (key === null) throw new EnvelopeError('malformed_body', 'a key is not 32 bytes as base64url')
  return key
}

/**
 * The `kid` of keys that name themselves (sessions, the gateway's): the first 16 bytes of the SHA-256 of the public key
 * as a version 8 UUID (RFC 9562 §5.8), so 122 of its bits are the hash's.
 *
 * @throws TypeError where it is not 32 bytes
 */
export function kidOfKey(publicKey: PublicKey): string {
  return formatUuid(hash('sha256', checkKey(publicKey), 'buffer').subarray(0, 16), 8)
}

function checkKey(key: Uint8Array): Uint8Array {
  if (!isUint8Array(key) || key.byteLength !== KEY_BYTES) throw new TypeError(`a key is ${KEY_BYTES} bytes`)
  return key
}
