import { EnvelopeError } from './errors.ts'

/** How deep `canonicalize` follows arrays and objects. Deeper is refused, and so is a cycle, which is deeper than anything. */
const MAX_DEPTH = 1000

/** Any character that may need an escape or a closer look: all but printable ASCII without quote and backslash. */
const NOT_PLAIN = /[^\x20\x21\x23-\x5b\x5d-\x7e]/

/**
 * The canonical form of a JSON value, RFC 8785 (JCS). Every finite number is taken; an envelope allows fewer
 * (see `parseCanonical`).
 *
 * @throws EnvelopeError `malformed_envelope` for what JSON cannot say: NaN and infinities, undefined, functions, symbols,
 * bigints, strings with a lone surrogate, objects that are neither plain nor arrays, and cycles or over 1,000 levels
 */
export function canonicalize(value: unknown): string {
  return write(value, 0)
}

function write(value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return writeString(value)
    case 'number':
      return writeNumber(value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (depth === MAX_DEPTH) throw refusal(`a cycle, or over ${MAX_DEPTH} levels`)
      return Array.isArray(value) ? writeArray(value, depth + 1) : writeObject(value, depth + 1)
    default:
      throw refusal(`a value of type ${typeof value}`)
  }
}

// ECMAScript's own serialization of numbers and strings is the one that RFC 8785 §3.2.2 prescribes.
function writeNumber(value: number): string {
  if (!Number.isFinite(value)) throw refusal('a number that is not finite')
  return `${value}`
}

function writeString(value: string): string {
  // Most text is plain ASCII, and quoting that by hand takes half the time.
  if (!NOT_PLAIN.test(value)) return `"${value}"`
  if (!value.isWellFormed()) throw refusal('a string with a lone surrogate')
  return JSON.stringify(value)
}

function writeArray(items: readonly unknown[], depth: number): string {
  let text = ''
  for (let i = 0; i < items.length; i++) text += i === 0 ? write(items[i], depth) : `,${write(items[i], depth)}`
  return `[${text}]`
}

function writeObject(value: object, depth: number): string {
  if (!isPlain(value)) throw refusal('an object that is neither plain nor an array')
  // Without a comparator, sort() goes by UTF-16 code units: RFC 8785 §3.2.3.
  const members = value as Record<string, unknown>
  let text = ''
  for (const key of Object.keys(members).sort()) {
    text += `${text === '' ? '' : ','}${writeString(key)}:${write(members[key], depth)}`
  }
  return `{${text}}`
}

/** Made by a literal, by JSON.parse or without a prototype, in whichever realm. A Date or a Map would silently be `{}`. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null
}

function refusal(what: string): EnvelopeError {
  return new EnvelopeError('malformed_envelope', `JSON has no form for ${what}`)
}
