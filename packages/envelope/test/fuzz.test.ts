import { randomInt } from 'node:crypto'
import { CodedError, isReasonCode } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { type EnvelopeError, generateKeyPair, newUuidV7, signEnvelope, verifyEnvelope } from '../src/index.ts'
import { allowedBody } from './_arbitrary.ts'

/** To repeat a run: FUZZ_SEED=n, with the number that the failing run printed. */
const seed = Number(process.env.FUZZ_SEED ?? randomInt(2 ** 31))
const runs = Number(process.env.FUZZ_RUNS ?? 4000)
const settings = { seed, numRuns: runs }

const { publicKey, privateKey: key } = generateKeyPair()
const kid = newUuidV7()

/** The code with which it is refused; null where it is accepted. Anything else that is thrown fails the test. */
function refusal(received: Uint8Array | string): string | null {
  try {
    verifyEnvelope(received, publicKey)
    return null
  } catch (error) {
    if (!(error instanceof CodedError) || error.name !== 'EnvelopeError') throw error
    if (!isReasonCode((error as EnvelopeError).code)) throw error
    return error.code
  }
}

/** One damage to bytes: something put in, left out, overwritten or doubled, JSON white space, a letter like another. */
const fragment = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 4 }),
  fc
    .constantFrom('"', '\\', '{', '}', '[', ']', ',', ':', ' ', '\n', '0', '-', '.', 'e', '\\u0000', '\\ud800')
    .map((text) => Buffer.from(text) as Uint8Array),
  fc
    .constantFrom('"v":1,', '"__proto__":{},', '"sig":"",', 'null', 'true', '1e400', '\ufeff', '/**/')
    .map((text) => Buffer.from(text) as Uint8Array),
)
const damage = fc.record({
  how: fc.constantFrom(
    'insert',
    'remove',
    'overwrite',
    'repeat',
    'truncate',
    'space',
    'resemble',
    'resemble',
    'resemble',
  ),
  at: fc.nat(4000),
  length: fc.integer({ min: 1, max: 12 }),
  fragment,
})
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never

function apply(bytes: Uint8Array, { how, at, length, fragment: piece }: Damage): Uint8Array {
  const from = at % (bytes.length + 1)
  const head = bytes.subarray(0, from)
  const cut = bytes.subarray(from, from + length)
  const rest = bytes.subarray(from + length)
  if (how === 'truncate') return head
  if (how === 'remove') return Buffer.concat([head, rest])
  if (how === 'repeat') return Buffer.concat([head, cut, cut, rest])
  if (how === 'overwrite') return Buffer.concat([head, piece, bytes.subarray(from + piece.length)])
  if (how === 'space') return insertSpace(bytes, from)
  if (how === 'resemble') return resemble(bytes, from, length)
  return Buffer.concat([head, piece, bytes.subarray(from)])
}

/** A space where JSON allows one: after the next comma (which may be in a string, and is then another body). */
function insertSpace(bytes: Uint8Array, from: number): Uint8Array {
  const after = bytes.indexOf(0x2c, from) + 1
  return Buffer.concat([bytes.subarray(0, after), Buffer.from(' '), bytes.subarray(after)])
}

/** The next letter or digit becomes another one, so that the form mostly stays and the content changes. */
function resemble(bytes: Uint8Array, from: number, step: number): Uint8Array {
  const at = bytes.findIndex((byte, i) => i >= from && /[0-9a-zA-Z]/.test(String.fromCharCode(byte)))
  const altered = Buffer.from(bytes)
  const byte = altered[at] ?? 0
  const [first, size] = byte < 0x3a ? [0x30, 10] : byte < 0x5b ? [0x41, 26] : [0x61, 26]
  if (at >= 0) altered[at] = first + ((byte - first + step) % size)
  return altered
}

test('EA-2: no damaged envelope is accepted, and each is refused with a registered code', (t) => {
  t.log(`FUZZ_SEED=${seed}`)
  const codes = new Map<string, number>()
  fc.assert(
    fc.property(allowedBody, fc.array(damage, { minLength: 1, maxLength: 3 }), (body, damages) => {
      const { bytes } = signEnvelope({ kid, key, body })
      const damaged = damages.reduce(apply, bytes)
      if (Buffer.compare(damaged, bytes) === 0) return
      const code = refusal(damaged)
      if (code === null) throw new Error(`accepted ${Buffer.from(damaged).toString('base64')}`)
      codes.set(code, (codes.get(code) ?? 0) + 1)
    }),
    settings,
  )
  t.log([...codes].map(([code, count]) => `${code} ${count}`).join(', '))
  // The damage reaches every stage that it can reach, or this test would prove little.
  for (const code of ['malformed_envelope', 'not_canonical', 'signature_mismatch']) t.true(codes.has(code), code)
})

test('random bytes, text and JSON are refused with a registered code', (t) => {
  t.log(`FUZZ_SEED=${seed}`)
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 400 }),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.json(),
    fc.json().map((text) => Buffer.from(text)),
    fc.nat(100_000).map((depth) => '['.repeat(depth)),
    fc.nat(100_000).map((depth) => '{"a":'.repeat(Math.floor(depth / 3))),
  )
  fc.assert(
    fc.property(anything, (received) => {
      t.is(refusal(received), 'malformed_envelope')
    }),
    settings,
  )
})

test('envelopes with members of any kind are refused with a registered code, unless they are as they were', (t) => {
  t.log(`FUZZ_SEED=${seed}`)
  const { envelope } = signEnvelope({ kid, key, body: { kind: 'heartbeat' } })
  const member = fc.constantFrom('alg', 'body', 'iat', 'kid', 'nonce', 'sig', 'v', '__proto__', 'extra')
  fc.assert(
    fc.property(member, fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }), (name, value) => {
      const altered = Object.fromEntries([...Object.entries(envelope), [name, value]])
      const code = refusal(altered as never)
      if (code === null) t.deepEqual(value, envelope[name as keyof typeof envelope] as never)
      else t.true(isReasonCode(code))
    }),
    settings,
  )
})
