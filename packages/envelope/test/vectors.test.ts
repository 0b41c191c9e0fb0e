import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { makeVectors, vectorsFolder } from '../scripts/make-vectors.ts'
import type { EnvelopeVector } from '../scripts/vectors/envelope.ts'
import {
  checkEnvelope,
  decodeKey,
  type EnvelopeError,
  envelopeCodes,
  parseCanonical,
  readEnvelope,
  verifyEnvelope,
} from '../src/index.ts'
import { envelopeVectors, wireOf } from './_vectors.ts'

test('the vector files are what their generator makes, no more and no less', (t) => {
  const files = readdirSync(vectorsFolder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.json'))
    .map((entry) => join(entry.parentPath, entry.name).slice(vectorsFolder.length))
  const made = makeVectors()
  t.deepEqual(files.sort(), [...made.keys()].sort())
  for (const [path, content] of made) t.is(readFileSync(join(vectorsFolder, path), 'utf8'), content, path)
})

test('every valid vector verifies, as bytes, as text and parsed', (t) => {
  for (const vector of envelopeVectors('valid')) {
    const key = decodeKey(vector.publicKey)
    const envelope = verifyEnvelope(wireOf(vector), key)
    t.deepEqual(verifyEnvelope(vector.wire ?? '', key), envelope, vector.name)
    t.deepEqual(verifyEnvelope(envelope, key), envelope, vector.name)
  }
})

test('EA-2 DA-2: every invalid vector is refused with its code', (t) => {
  for (const vector of envelopeVectors('invalid')) t.is(outcome(vector), vector.code, vector.name)
})

test('there is a vector for every code that an envelope can end in, but the one that is the contract’s', (t) => {
  const reached = new Set(envelopeVectors('invalid').map(({ code }) => code))
  t.deepEqual(
    [...envelopeCodes].filter((code) => !reached.has(code)),
    ['malformed_body'],
  )
})

test('parseCanonical knows the first two codes and leaves the others to later questions', (t) => {
  for (const vector of envelopeVectors('invalid')) {
    const early = vector.code === 'malformed_envelope' || vector.code === 'not_canonical'
    const read = readEnvelope(wireOf(vector))
    t.is(read.ok ? null : read.code, early ? (vector.code ?? null) : null, vector.name)
    if (early) t.throws(() => parseCanonical(wireOf(vector)), { code: vector.code }, vector.name)
    else t.notThrows(() => parseCanonical(wireOf(vector)), vector.name)
  }
})

/** The code that a vector ends in; undefined where it is accepted. */
function outcome({ door, publicKey, ...vector }: EnvelopeVector): string | undefined {
  const wire = wireOf({ publicKey, ...vector })
  if (door === undefined) {
    try {
      verifyEnvelope(wire, decodeKey(publicKey))
      return undefined
    } catch (error) {
      return (error as EnvelopeError).code
    }
  }
  const { signer } = door
  const result = checkEnvelope(wire, {
    ...door,
    isSupported: (kind) => door.supportedKinds.includes(kind),
    checkBody: () => null,
    signerOf: (kid) =>
      signer === null ? undefined : { kid, lenserId: signer.lenserId, publicKey: decodeKey(signer.publicKey) },
  })
  return result.ok ? undefined : result.code
}
