import test from 'ava'
import fc from 'fast-check'
import { canonicalize } from '../src/index.ts'
import { allowedValue } from './_arbitrary.ts'
import { always } from './_property.ts'
import { rfc8785Vectors } from './_vectors.ts'

test('the examples of RFC 8785 come out as printed there', (t) => {
  for (const { name, input, output, hex: bytes } of rfc8785Vectors.texts) {
    t.is(canonicalize(JSON.parse(input)), output, name)
    if (bytes !== undefined) t.is(Buffer.from(output).toString('hex'), bytes, name)
  }
})

test('the numbers of RFC 8785, Appendix B, come out as printed there', (t) => {
  for (const { bits, text } of rfc8785Vectors.numbers) {
    const value = Buffer.from(bits, 'hex').readDoubleBE()
    if (text === null) t.throws(() => canonicalize(value), { code: 'malformed_envelope' }, bits)
    else t.is(canonicalize(value), text, bits)
  }
})

test('every finite number is taken, also those that an envelope refuses', (t) => {
  t.is(canonicalize([2 ** 53, 1e300, -0]), '[9007199254740992,1e+300,0]')
  always(
    t,
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      return Object.is(JSON.parse(canonicalize(value)) + 0, value + 0)
    }),
  )
})

test('the form is the one that sorting members by UTF-16 gives, and reading it back gives the value', (t) => {
  always(
    t,
    fc.property(allowedValue, (value) => {
      const text = canonicalize(value)
      t.is(text, reference(value))
      t.is(canonicalize(JSON.parse(text)), text)
    }),
  )
})

test('what JSON cannot say is refused with a code', (t) => {
  const cycle: unknown[] = []
  cycle.push({ cycle })
  const deep = JSON.parse(`${'['.repeat(5000)}${']'.repeat(5000)}`)
  const cases: Record<string, unknown> = {
    NaN: Number.NaN,
    Infinity: [Number.POSITIVE_INFINITY],
    undefined: undefined,
    'undefined member': { a: undefined },
    hole: new Array(2),
    function: { a: () => 1 },
    toJSON: { toJSON: () => 1 },
    symbol: Symbol('a'),
    bigint: [1n],
    'lone surrogate': '\ud800',
    'lone surrogate in a name': { '\udc00': 1 },
    cycle,
    deep,
    date: new Date(0),
    map: new Map(),
    bytes: new Uint8Array(1),
    'boxed string': new String('a'),
  }
  for (const [name, value] of Object.entries(cases)) {
    t.throws(() => canonicalize(value), { code: 'malformed_envelope' }, name)
  }
})

test('objects without a prototype, and of another realm, are plain', async (t) => {
  const { runInNewContext } = await import('node:vm')
  t.is(canonicalize(Object.assign(Object.create(null), { b: 1, a: 2 })), '{"a":2,"b":1}')
  t.is(canonicalize(runInNewContext('({ b: [1], a: 2 })')), '{"a":2,"b":[1]}')
})

/** RFC 8785 again, by other means: members compared as UTF-16 bytes, numbers and text left to JSON.stringify. */
function reference(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(reference).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16()
  const members = Object.entries(value).sort(([a], [b]) => Buffer.compare(utf16(a), utf16(b)))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${reference(member)}`).join(',')}}`
}
