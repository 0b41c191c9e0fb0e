import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { vectorsFolder } from '../scripts/make-vectors.ts'
import type { SignatureVector } from '../scripts/vectors/ed25519.ts'
import type { EnvelopeVector } from '../scripts/vectors/envelope.ts'
import type { rfc8032 } from '../scripts/vectors/rfc8032.ts'
import type { rfc8785 } from '../scripts/vectors/rfc8785.ts'

const read = (...path: string[]): unknown => JSON.parse(readFileSync(join(vectorsFolder, ...path), 'utf8'))

/** The published files, as any other implementation would read them. */
export const signatureVectors = read('ed25519.json') as SignatureVector[]
export const rfc8032Vectors = read('rfc8032.json') as typeof rfc8032
export const rfc8785Vectors = read('rfc8785.json') as typeof rfc8785

export function envelopeVectors(folder: 'valid' | 'invalid'): EnvelopeVector[] {
  return readdirSync(join(vectorsFolder, 'envelope', folder)).map(
    (file) => read('envelope', folder, file) as EnvelopeVector,
  )
}

export function wireOf({ wire, wireBase64 }: EnvelopeVector): Uint8Array {
  return wire === undefined ? Buffer.from(wireBase64 ?? '', 'base64') : Buffer.from(wire)
}

export const hex = (text: string): Uint8Array => Buffer.from(text, 'hex')
