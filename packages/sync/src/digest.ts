import { hash } from 'node:crypto'
import { canonicalize } from '@lenserfight/envelope'
import { textOf } from './text.ts'
import type { Delta, ObjectState } from './types.ts'

/** SHA-256 of a state's canonical JSON (RFC 8785), clocks included, base64url: replicas that hold the same have the same. */
export const digestOf = (state: ObjectState): string => hash('sha256', textOf(state), 'base64url')

/** The link of an edit: SHA-256 of its canonical JSON, the link of the one before it included (rule 6). */
export const linkOf = ({ class: className, object, actor, clock, paths, prev }: Delta): string =>
  hash('sha256', canonicalize({ class: className, object, actor, clock, paths, prev }), 'base64url')

/** What a replica holds of one class: how many objects, and the XOR of the first 16 bytes of SHA-256 over (id, digest), hex. */
export interface Checksum {
  readonly count: number
  readonly xor: string
}

export const emptyChecksum: Checksum = { count: 0, xor: '0'.repeat(32) }

/** What one object adds to a checksum, and takes from it again: 128 bits. */
export const checksumPart = (object: string, digest: string): bigint =>
  BigInt(`0x${hash('sha256', canonicalize([object, digest]), 'hex').slice(0, 32)}`)

/** The checksum of a class's objects, in any order. */
export const checksumOf = (objects: Iterable<{ readonly object: string; readonly digest: string }>): Checksum => {
  let count = 0
  let xor = 0n
  for (const { object, digest } of objects) {
    count += 1
    xor ^= checksumPart(object, digest)
  }
  return { count, xor: xor.toString(16).padStart(32, '0') }
}
