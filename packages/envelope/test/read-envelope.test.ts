import { limits } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { SIG, signText, template } from '../scripts/vectors/envelope.ts'
import { decodeBase64Url, EnvelopeError, parseCanonical, readEnvelope } from '../src/index.ts'
import { always } from './_property.ts'

const body = (length: number): string => signText(template({ body: `{"a":"${'a'.repeat(length)}"}` }))

test('an envelope of the largest size is read, and one byte more is not', (t) => {
  const room = limits.envelopeBytes - body(0).length
  t.true(readEnvelope(Buffer.from(body(room))).ok)
  t.true(readEnvelope(body(room)).ok)
  t.throws(() => parseCanonical(Buffer.from(body(room + 1))), { code: 'malformed_envelope' })
  t.throws(() => parseCanonical(body(room + 1)), { code: 'malformed_envelope' })
})

test('size is counted in bytes, not in characters', (t) => {
  const text = signText(template({ body: `{"a":"${'é'.repeat(limits.envelopeBytes / 2)}"}` }))
  t.true(text.length < limits.envelopeBytes)
  t.throws(() => parseCanonical(text), { code: 'malformed_envelope' })
  t.throws(() => parseCanonical(Buffer.from(text)), { code: 'malformed_envelope' })
})

test('the deepest envelope is read as bytes and as text alike', (t) => {
  const depth = (levels: number): string =>
    signText(template({ body: `{"a":${'['.repeat(levels)}${']'.repeat(levels)}}` }))
  t.true(readEnvelope(depth(limits.envelopeDepth - 2)).ok)
  t.false(readEnvelope(depth(limits.envelopeDepth - 1)).ok)
  const objects = `${'{"a":'.repeat(limits.envelopeDepth - 1)}1${'}'.repeat(limits.envelopeDepth - 1)}`
  t.true(readEnvelope(signText(template({ body: objects }))).ok)
  t.false(readEnvelope(signText(template({ body: `{"a":${objects}}` }))).ok)
})

test('the bytes returned are the bytes received, also within a larger buffer', (t) => {
  const bytes = Buffer.from(body(3))
  const within = Buffer.concat([Buffer.from('{}'), bytes, Buffer.from('{}')]).subarray(2, 2 + bytes.length)
  const read = readEnvelope(within)
  t.true(read.ok)
  if (read.ok) t.is(read.bytes, within)
  if (read.ok) t.is(read.text, body(3))
})

test('text with a lone surrogate is no envelope, though as bytes it would be replaced', (t) => {
  t.throws(() => parseCanonical(body(0).replace('""', '"\ud800"')), { code: 'malformed_envelope' })
})

test('what is neither bytes nor text is refused and nothing throws', (t) => {
  const detached = new Uint8Array(8)
  structuredClone(detached, { transfer: [detached.buffer] })
  const shared = new Uint8Array(new SharedArrayBuffer(8))
  const odd = [undefined, null, 1, {}, [], new Uint16Array(2), new DataView(new ArrayBuffer(2)), detached, shared]
  for (const value of odd) {
    const read = readEnvelope(value as Uint8Array)
    t.is(read.ok ? null : read.code, 'malformed_envelope')
  }
})

test('a name of the prototype in a body changes nothing outside it', (t) => {
  const envelope = parseCanonical(signText(template({ body: '{"__proto__":{"polluted":true}}' })))
  t.false('polluted' in {})
  t.false('polluted' in envelope.body)
  t.deepEqual(Object.keys(envelope.body), ['__proto__'])
})

test('SH-3: a refusal says nothing of what was in the envelope', (t) => {
  const secret = 'hunter2hunter2'
  const wires = [
    `{"alg":"${secret}`,
    signText(template({ body: `{"a":"${secret}","b":1e400}` })),
    signText(template({ body: `{ "a":"${secret}"}` })),
    template({ body: `{"a":"${secret}"}` }).replace(SIG, secret),
  ]
  for (const wire of wires) {
    const error = t.throws(() => parseCanonical(wire), { instanceOf: EnvelopeError })
    t.notRegex(`${error?.message} ${error?.detail} ${error?.stack} ${String(error?.cause)}`, new RegExp(secret))
  }
})

test('base64url is decoded from its one spelling alone', (t) => {
  always(
    t,
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.string({ minLength: 1, maxLength: 2 }),
      (bytes, extra) => {
        const text = Buffer.from(bytes).toString('base64url')
        t.deepEqual(decodeBase64Url(text, 16), Buffer.from(bytes))
        t.is(decodeBase64Url(text, 15), null)
        t.is(decodeBase64Url(text + extra, 16), null)
        t.is(decodeBase64Url(`${text}==`, 16), null)
      },
    ),
  )
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const accepted = [...alphabet].filter((last) => decodeBase64Url(`${'A'.repeat(21)}${last}`, 16) !== null)
  t.deepEqual(accepted, ['A', 'Q', 'g', 'w'])
})
