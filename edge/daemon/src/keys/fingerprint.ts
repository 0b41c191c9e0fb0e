import { createHash } from 'node:crypto'
import { decodeKey } from '@lenserfight/envelope'

/**
 * How a key is told to people and compared with what the gateway says is in force.
 * @param publicKey base64url
 * @returns `SHA256:` and the digest as base64url, as `devices.fn_fingerprint` has it
 */
export const fingerprintOf = (publicKey: string): string =>
  `SHA256:${createHash('sha256').update(decodeKey(publicKey)).digest('base64url')}`
