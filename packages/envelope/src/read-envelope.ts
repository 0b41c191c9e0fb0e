import { isUtf8 } from 'node:buffer'
import { isUint8Array } from 'node:util/types'
import { limits } from '@lenserfight/schemas'
import { decodeBase64Url } from './base64url.ts'
import { canonicalize } from './canonicalize.ts'
import { EnvelopeError, type Refusal, refuse } from './errors.ts'
import { examine, type Finding, finding } from './examine.ts'
import { isUuid } from './ids.ts'
import type { Envelope, ReceivedEnvelope } from './types.ts'

export type Read = ({ readonly ok: true } & ReceivedEnvelope) | Refusal

/**
 * Parses the wire form of an envelope, strictly: protocol.md, "The envelope on the wire". No member is trusted yet.
 *
 * @param received the bytes as received, or their text
 * @throws EnvelopeError `malformed_envelope` where they are no envelope at all, `not_canonical` where they are one but
 * differ by any byte from its canonical form (RFC 8785)
 */
export function parseCanonical(received: Uint8Array | string): Envelope {
  const read = readEnvelope(received)
  if (!read.ok) throw new EnvelopeError(read.code, read.detail)
  return read.envelope
}

/**
 * `parseCanonical` for the hot path: a refusal is a value, not an error.
 * Never throws, whatever it is given.
 */
export function readEnvelope(received: Uint8Array | string): Read {
  const text = decode(received)
  if (typeof text !== 'string') return text
  const parsed = parseJson(text)
  if (parsed === undefined) return malformed('not JSON')
  const found = examine(parsed, limits.envelopeDepth, text.includes('\\u'))
  if (found > finding.unordered) return malformed(explanations[found] ?? 'not allowed in an envelope')
  const wrong = wrongMember(parsed)
  if (wrong !== null) return malformed(wrong)
  if (!isCanonical(parsed, text, found))
    return refuse('not_canonical', 'the bytes are not the canonical form (RFC 8785)')
  const bytes = typeof received === 'string' ? Buffer.from(text) : received
  return { ok: true, envelope: parsed as Envelope, bytes, text }
}

const explanations: Partial<Record<Finding, string>> = {
  [finding.tooDeep]: `nested deeper than ${limits.envelopeDepth} levels`,
  [finding.badNumber]: 'a number that is not finite, or an integer beyond 2^53 - 1',
  [finding.badText]: 'a string with a lone surrogate or U+0000',
}

/** The text of the bytes, or the refusal. Valid UTF-8 has one reading, so comparing texts later compares the bytes. */
function decode(received: Uint8Array | string): string | Refusal {
  if (typeof received === 'string') {
    if (received.length > limits.envelopeBytes || Buffer.byteLength(received) > limits.envelopeBytes) return tooLarge()
    return received.isWellFormed() ? received : malformed('not well-formed text')
  }
  if (!isUint8Array(received)) return malformed('neither bytes nor text')
  if (received.byteLength > limits.envelopeBytes) return tooLarge()
  // Detached memory has no length either, and isUtf8 would throw on it.
  if (received.byteLength === 0) return malformed('empty')
  if (!isUtf8(received)) return malformed('not UTF-8')
  // Buffer keeps a byte order mark as U+FEFF, which is not JSON; TextDecoder would drop it by default.
  return Buffer.from(received.buffer, received.byteOffset, received.byteLength).toString('utf8')
}

/** The parsed value; undefined, which JSON cannot say, where the text is not JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The error quotes the text, and nothing of a body may reach a log: it goes no further.
    return undefined
  }
}

/** What is wrong with the seven members, or null. JSON.parse makes own properties of all names, `__proto__` too. */
function wrongMember(parsed: unknown): string | null {
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'not an object'
  if (Object.keys(parsed).length !== 7) return 'not exactly the seven members'
  const { alg, body, iat, kid, nonce, sig, v } = parsed as Record<string, unknown>
  if (typeof alg !== 'string') return 'alg is not a string'
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return 'body is not an object'
  if (!Number.isSafeInteger(iat)) return 'iat is not a safe integer'
  if (!isUuid(kid)) return 'kid is not a lower-case UUID'
  if (typeof nonce !== 'string' || decodeBase64Url(nonce, 16) === null) return 'nonce is not 16 bytes as base64url'
  if (typeof sig !== 'string' || decodeBase64Url(sig, 64) === null) return 'sig is not 64 bytes as base64url'
  if (!Number.isSafeInteger(v)) return 'v is not a safe integer'
  return null
}

/**
 * Where all members enumerate in canonical order, JSON.stringify is the canonical form and four times as fast.
 * (It enumerates integer-like names first, by value, so these can be canonical only the slow way.)
 */
function isCanonical(parsed: unknown, text: string, found: Finding): boolean {
  return (found === finding.ordered ? JSON.stringify(parsed) : canonicalize(parsed)) === text
}

function malformed(detail: string): Refusal {
  return refuse('malformed_envelope', detail)
}

function tooLarge(): Refusal {
  return malformed(`larger than ${limits.envelopeBytes} bytes`)
}
