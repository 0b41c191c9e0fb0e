import { Compile, type Validator } from '../typebox/index.mjs'
import { type KindName, kindNames, kinds } from './kinds.ts'

// Compiled on first use, so that importing the contract costs nothing.
const compiled = new Map<KindName, Validator>()
const known = new Set<string>(kindNames)

/** How much of a place is told: the names in it may be the sender's own, of any length and any characters. */
const placeChars = 100

/**
 * Whether a body has the form of its kind. Unknown kinds never have.
 * @returns null if it does, else where and how it does not, without any of its values.
 */
export const checkBody = (kind: string, body: unknown): string | null => {
  if (!known.has(kind)) return 'unknown kind'
  const name = kind as KindName
  let validator = compiled.get(name)
  if (validator === undefined) {
    validator = Compile(kinds[name].body)
    compiled.set(name, validator)
  }
  if (validator.Check(body)) return null
  const [first] = validator.Errors(body)
  if (first === undefined) return 'does not match its schema'
  // Cut between the halves of a character it would be no text, and whoever passes it on could not sign it.
  const place = first.instancePath.slice(0, placeChars).toWellFormed()
  return `${place || '/'} ${first.message}`
}
