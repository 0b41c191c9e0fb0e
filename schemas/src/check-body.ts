import { Compile, type Validator } from 'typebox/compile'
import { type KindName, kindNames, kinds } from './kinds.ts'

// Compiled on first use, so that importing the contract costs nothing.
const compiled = new Map<KindName, Validator>()
const known = new Set<string>(kindNames)

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
  return first === undefined ? 'does not match its schema' : `${first.instancePath || '/'} ${first.message}`
}
