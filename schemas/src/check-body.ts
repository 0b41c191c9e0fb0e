import { firstMisfit } from './fits.ts'
import { type KindName, kindNames, kinds } from './kinds.ts'

const known = new Set<string>(kindNames)

/** How much of a place is told: the names in it may be the sender's own, of any length and any characters. */
const placeChars = 100

/**
 * Whether a body has the form of its kind. Unknown kinds never have.
 * @returns null if it does, else where and how it does not, without any of its values.
 */
export const checkBody = (kind: string, body: unknown): string | null => {
  if (!known.has(kind)) return 'unknown kind'
  const first = firstMisfit(kinds[kind as KindName].body, body)
  if (first === undefined) return null
  // Cut between the halves of a character it would be no text, and whoever passes it on could not sign it.
  const place = first.place.slice(0, placeChars).toWellFormed()
  return `${place || '/'} ${first.message}`
}
