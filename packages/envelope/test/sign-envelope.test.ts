import { createHash } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import {
  canonicalize,
  createSigner,
  envelopeDigest,
  generateKeyPair,
  newUuidV7,
  readEnvelope,
  signatureBytes,
  signEnvelope,
  signedBytes,
  signingDigest,
  verifyEnvelope,
} from '../src/index.ts'
import { allowedBody } from './_arbitrary.ts'
import { always } from './_property.ts'

const { publicKey, privateKey: key } = generateKeyPair()
const kid = newUuidV7()
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

test('EA-2: whatever body is allowed, what was signed verifies, and is what was given', (t) => {
  always(
    t,
    fc.property(allowedBody, (body) => {
      const { envelope, bytes, text, digest } = signEnvelope({ kid, key, body })
      t.deepEqual(verifyEnvelope(bytes, publicKey), envelope as never)
      t.is(canonicalize(envelope.body), canonicalize(body))
      t.deepEqual(digest, sha256(bytes))
      t.deepEqual(Buffer.from(text), bytes)
    }),
    { numRuns: 300 },
  )
})

test('EA-2: an envelope with any one byte changed is refused, whichever and to whatever', (t) => {
  always(
    t,
    fc.property(allowedBody, fc.integer({ min: 1, max: 255 }), (body, difference) => {
      const { bytes } = signEnvelope({ kid, key, body })
      for (let at = 0; at < bytes.length; at++) {
        const altered = Buffer.from(bytes)
        altered[at] = (altered[at] ?? 0) ^ difference
        t.throws(() => verifyEnvelope(altered, publicKey), { name: 'EnvelopeError' }, `byte ${at}`)
      }
    }),
    { numRuns: 25 },
  )
})

test('EA-2: a byte inserted or left out anywhere is refused too', (t) => {
  const { bytes } = signEnvelope({ kid, key, body: { kind: 'heartbeat', note: 'é' } })
  for (let at = 0; at <= bytes.length; at++) {
    const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)]
    for (const byte of [0x20, 0x30, 0x41, 0x5c]) {
      const longer = Buffer.concat([head, Buffer.of(byte), tail])
      t.throws(() => verifyEnvelope(longer, publicKey), { name: 'EnvelopeError' }, `byte ${byte} at ${at}`)
    }
    if (at === bytes.length) continue
    const shorter = Buffer.concat([head, tail.subarray(1)])
    t.throws(() => verifyEnvelope(shorter, publicKey), { name: 'EnvelopeError' }, `without byte ${at}`)
  }
})

test('the signed bytes cut from the wire are the canonical form of the six other members', (t) => {
  always(
    t,
    fc.property(allowedBody, (body) => {
      const { envelope, bytes } = signEnvelope({ kid, key, body })
      const { sig, ...unsigned } = envelope
      const expected = Buffer.from(canonicalize(unsigned))
      t.deepEqual(signedBytes(bytes), expected)
      t.deepEqual(signingDigest(bytes), sha256(expected))
      t.deepEqual(envelopeDigest(bytes), sha256(bytes))
      t.is(Buffer.from(signatureBytes(envelope)).toString('base64url'), sig)
    }),
  )
})

test('bytes that are no version 1 envelope have no signed bytes', (t) => {
  const { bytes } = signEnvelope({ kid, key, body: {} })
  for (const wrong of [Buffer.alloc(0), Buffer.alloc(500), bytes.subarray(1, -1), bytes.subarray(-60)]) {
    t.throws(() => signedBytes(wrong), { instanceOf: TypeError })
  }
  t.throws(() => signatureBytes({ sig: 'AAAA' }), { instanceOf: TypeError })
})

test('the time is the signer’s clock in whole seconds, and each nonce is new', (t) => {
  const signer = createSigner({ kid, key, now: () => 1_780_000_000_999 })
  const [one, two] = [signer.sign({ body: {} }).envelope, signer.sign({ body: {} }).envelope]
  t.is(one.iat, 1_780_000_000)
  t.not(one.nonce, two.nonce)
  t.not(one.sig, two.sig)
  t.deepEqual(signer.publicKey, publicKey)
})

test('the same content, time and nonce give the same bytes', (t) => {
  const input = { kid, key, iat: 1_780_000_000, nonce: 'AAAAAAAAAAAAAAAAAAAAAA' }
  t.deepEqual(signEnvelope({ ...input, body: { a: 1, b: 2 } }), signEnvelope({ ...input, body: { b: 2, a: 1 } }))
})

test('what the door would refuse is not signed', (t) => {
  const refused = (input: object): void => {
    t.throws(() => signEnvelope({ kid, key, body: {}, ...input }), { code: 'malformed_envelope' })
  }
  refused({ kid: kid.toUpperCase() })
  refused({ iat: 1.5 })
  refused({ iat: Number.NaN })
  refused({ nonce: 'AAAAAAAAAAAAAAAAAAAAAB' })
  refused({ body: [] })
  refused({ body: null })
  refused({ body: { a: 2 ** 53 } })
  refused({ body: { a: '\u0000' } })
  refused({ body: { '\ud800': 1 } })
  refused({ body: { a: undefined } })
  refused({ body: { a: 'a'.repeat(256 * 1024) } })
  t.throws(() => signEnvelope({ kid, key: new Uint8Array(64), body: {} }), { instanceOf: TypeError })
})

test('an envelope parsed and altered does not verify', (t) => {
  const { envelope } = signEnvelope({ kid, key, body: { amount: 1 } })
  t.throws(() => verifyEnvelope({ ...envelope, body: { amount: 2 } }, publicKey), { code: 'signature_mismatch' })
  t.throws(() => verifyEnvelope({ ...envelope, extra: 1 } as never, publicKey), { code: 'malformed_envelope' })
  t.throws(() => verifyEnvelope(undefined as never, publicKey), { code: 'malformed_envelope' })
})

test('what is returned shares nothing with what was given', (t) => {
  const body = { list: [1] }
  const { envelope, bytes } = signEnvelope({ kid, key, body })
  body.list.push(2)
  const read = readEnvelope(bytes)
  t.deepEqual(envelope.body, { list: [1] })
  t.true(read.ok && canonicalize(read.envelope) === canonicalize(envelope))
})
