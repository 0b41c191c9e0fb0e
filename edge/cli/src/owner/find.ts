import { CodedError } from '@lenserfight/schemas'
import { plain } from '../output.ts'

/** Shorter beginnings of an id would name another thing too soon. */
const prefixChars = 8
/** Of several that are meant, so many are told. */
const mostTold = 5

/** What an id, a name or the beginning of an id (8 characters or more) means; several where it is not said clearly. */
export const meantBy = <T>(
  all: readonly T[],
  given: string,
  { idOf, nameOf }: { readonly idOf: (each: T) => string; readonly nameOf?: (each: T) => string | undefined },
): readonly T[] => {
  const byId = all.filter((each) => idOf(each) === given)
  if (byId.length > 0) return byId
  const byName = nameOf === undefined ? [] : all.filter((each) => nameOf(each) === given)
  const byPrefix = given.length < prefixChars ? [] : all.filter((each) => idOf(each).startsWith(given))
  return [...new Set([...byName, ...byPrefix])]
}

/** That several are meant, which, and what to do: none of them is taken for the one. */
export const severalMeant = (given: string, several: readonly string[]): CodedError => {
  const others = several.length - mostTold
  const told = [...several.slice(0, mostTold), ...(others > 0 ? [`${others} more`] : [])].join(', ')
  return new CodedError('usage', `${plain(given)} is the beginning of several: ${told}; give more of it`)
}
