import { hash, randomBytes } from 'node:crypto'
import { decodeBase64Url, encodeBase64Url, type KeyPair, kidOfKey, publicKeyOf } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'

/**
 * An API key: `lfk_` and, as base64url, the account's id (16 bytes), 32 random bytes, and a checksum (4 bytes). It is no
 * password that somebody compares: an Ed25519 key is derived from it here, and the gateway knows that key's public half
 * alone. So neither the broker nor the database ever holds what could sign in.
 */
export interface ApiKey {
  readonly lenser: string
  readonly kid: string
  readonly keys: KeyPair
}

const prefix = 'lfk_'
const lenserBytes = 16
const secretBytes = 32
const sumBytes = 4
const wholeBytes = lenserBytes + secretBytes + sumBytes

const sha256 = (...parts: Uint8Array[]): Buffer => hash('sha256', Buffer.concat(parts), 'buffer')
/** Tells a key that lost a character from one that the gateway does not know; it protects nothing. */
const sumOf = (payload: Uint8Array): Buffer =>
  sha256(Buffer.from('ltg.v1.api-key-sum\0'), payload).subarray(0, sumBytes)
/** Of its own domain: the same 32 bytes used elsewhere make another key. */
const seedOf = (secret: Uint8Array): Uint8Array => new Uint8Array(sha256(Buffer.from('ltg.v1.api-key\0'), secret))

const uuidOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

const read = (payload: Buffer): ApiKey => {
  const privateKey = seedOf(payload.subarray(lenserBytes))
  const publicKey = publicKeyOf(privateKey)
  return { lenser: uuidOf(payload.subarray(0, lenserBytes)), kid: kidOfKey(publicKey), keys: { publicKey, privateKey } }
}

/** A new API key of an account, and the text that is shown once. */
export const newApiKey = (lenser: string): ApiKey & { readonly text: string } => {
  const payload = Buffer.concat([Buffer.from(lenser.replaceAll('-', ''), 'hex'), randomBytes(secretBytes)])
  return { ...read(payload), text: prefix + encodeBase64Url(Buffer.concat([payload, sumOf(payload)])) }
}

/**
 * Reads the text of an API key.
 * @throws CodedError `api_key_invalid`, which quotes nothing of it
 */
export const readApiKey = (text: string): ApiKey => {
  const bytes = text.startsWith(prefix) ? decodeBase64Url(text.slice(prefix.length), wholeBytes) : null
  if (bytes === null) throw new CodedError('api_key_invalid')
  const payload = Buffer.from(bytes.subarray(0, lenserBytes + secretBytes))
  if (!sumOf(payload).equals(bytes.subarray(lenserBytes + secretBytes))) {
    throw new CodedError('api_key_invalid', 'a character of it is wrong or missing')
  }
  return read(payload)
}
