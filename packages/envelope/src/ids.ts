import { randomBytes } from 'node:crypto'
import { encodeBase64Url } from './base64url.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Whether it is a UUID of any version in lower case with hyphens, the one spelling that the protocol knows. */
export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value)
}

/** Whether it is a version 7 UUID (RFC 9562 §5.7) in lower case: the form of `op_id`. */
export function isUuidV7(value: unknown): value is string {
  return typeof value === 'string' && UUID_V7.test(value)
}

/** The time in a version 7 UUID, Unix milliseconds; null where it is no such UUID. */
export function uuidV7Time(id: unknown): number | null {
  return isUuidV7(id) ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : null
}

/**
 * A new version 7 UUID (RFC 9562 §5.7): 48 bits of time, 74 random bits.
 *
 * @param now Unix milliseconds
 */
export function newUuidV7(now: number = Date.now()): string {
  const bytes = randomBytes(16)
  bytes.writeUIntBE(now, 0, 6)
  return formatUuid(bytes, 7)
}

/** Sixteen bytes as a UUID of that version; six bits are overwritten by version and variant (RFC 9562 §4). */
export function formatUuid(bytes: Uint8Array, version: number): string {
  const marked = Buffer.from(bytes)
  marked[6] = ((marked[6] ?? 0) & 0x0f) | (version << 4)
  marked[8] = ((marked[8] ?? 0) & 0x3f) | 0x80
  const hex = marked.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** A new nonce: 128 random bits as 22 base64url characters (RFC-0003 §3). */
export function randomNonce(): string {
  return encodeBase64Url(randomBytes(16))
}
