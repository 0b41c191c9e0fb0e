import { Bytes32, CodedError, limits, Nullable, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'
import { meantBy, severalMeant } from './find.ts'

const Side = Type.Object({
  actor: Type.String(),
  /** Null where the gateway itself wrote it; what an undo opened again tells whose it was before. */
  device_id: Nullable(Uuid),
  device_name: Nullable(Type.String()),
  value: Type.Unknown(),
})
const Conflict = Type.Object({
  id: Uuid,
  class: Type.String(),
  object: Type.String(),
  path: Type.String(),
  /** What every side had seen; null where that is kept no more, or there was nothing. */
  base: Nullable(Type.Object({ value: Type.Unknown() })),
  sides: Type.Array(Side, { minItems: 2 }),
  /** Where it is about whether the object exists: paths that were written by who had not seen that it was deleted. */
  edited: Type.Array(Type.String()),
  /** Names these sides: a resolution says which ones it is of. */
  sides_digest: Bytes32,
  opened_at: Type.Number(),
  changed_at: Type.Number(),
  closed_at: Nullable(Type.Number()),
  /** No answer has room for its values: they are null here, and it can be decided all the same. */
  omitted: Type.Optional(Type.Boolean()),
  resolutions: Type.Array(Type.Object({ id: Uuid, kind: Type.Enum(['resolve', 'undo']), at: Type.Number() })),
})
/** Writes of one path of an object that a person has to choose between. Times are Unix milliseconds. */
export type Conflict = Static<typeof Conflict>
export type Side = Static<typeof Side>

export interface Conflicts {
  readonly conflicts: Conflict[]
  /** There are some that this answer has no room for. */
  readonly more: boolean
}

/** @throws CodedError `internal_error` where the answer is none of conflicts */
export const conflictsOf = ({ conflicts, more }: Readonly<Record<string, unknown>>): Conflicts => {
  if (!Check(Type.Array(Conflict), conflicts))
    throw new CodedError('internal_error', 'the list is not one of conflicts')
  return { conflicts, more: more === true }
}

/** So many answers are asked for at most: who has more conflicts resolves some first. */
const mostAnswers = 20

/** The account's open conflicts, oldest first. */
export const listConflicts = async (owner: Owner): Promise<Conflicts> => {
  const all: Conflict[] = []
  for (let asked = 0; asked < mostAnswers; asked += 1) {
    const last = all.at(-1)
    const page = conflictsOf(await owner.request('sync_conflicts', last === undefined ? {} : { after: last.id }))
    all.push(...page.conflicts)
    if (!page.more || page.conflicts.length === 0) return { conflicts: all, more: false }
  }
  return { conflicts: all, more: true }
}

const whatIsMeant = `a conflict’s id, or its first 8 characters and as many more as tell it from the oldest ${mostAnswers * limits.conflictsPerAnswer} open ones; one that was decided is found by its whole id`

const conflictById = async (owner: Owner, id: string): Promise<Conflict | undefined> =>
  conflictsOf(await owner.request('sync_conflicts', { conflict_id: id })).conflicts[0]

/**
 * The one conflict that an id, open or not, or a unique beginning of an open one's (8 characters or more) means.
 * @throws CodedError `unknown_conflict`; `usage` where several are meant
 */
export const findConflict = async (owner: Owner, given: string): Promise<Conflict> => {
  const named = Check(Uuid, given) ? await conflictById(owner, given) : undefined
  if (named !== undefined) return named
  const open = Check(Uuid, given) ? [] : (await listConflicts(owner)).conflicts
  const [found, ...others] = meantBy(open, given, { idOf: (each) => each.id })
  if (found === undefined) throw new CodedError('unknown_conflict', `${plain(given)}: ${whatIsMeant}`)
  if (others.length === 0) return found
  throw severalMeant(
    given,
    [found, ...others].map(({ id }) => id),
  )
}

/** What a person decided: one of the sides by its place, the base, or a value of their own. */
export type Winner = { readonly side: number } | { readonly base: true } | { readonly value: unknown }

const Resolution = Type.Object({
  resolution_id: Uuid,
  conflict_id: Uuid,
  class: Type.String(),
  object: Type.String(),
  path: Type.String(),
})
/** What was decided, or taken back. */
export type Resolution = Static<typeof Resolution>

/** @throws CodedError `internal_error` where the answer is no resolution */
export const resolutionOf = (answer: unknown): Resolution => {
  if (!Check(Resolution, answer)) throw new CodedError('internal_error', 'the answer is not a resolution')
  return answer
}
