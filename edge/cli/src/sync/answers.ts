import { CodedError } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'

const Pulled = Type.Object({ rows: Type.Number(), objects: Type.Number(), done: Type.Boolean() })
/** What a pull brought, and whether that is all that there is. */
export type Pulled = Static<typeof Pulled>

const Pushed = Type.Object({
  applied: Type.Number(),
  duplicate: Type.Number(),
  refused: Type.Number(),
  pending: Type.Number(),
})
/** What became of the edits that waited. */
export type Pushed = Static<typeof Pushed>

const Waiting = Type.Object({
  class: Type.String(),
  object: Type.String(),
  paths: Type.Array(Type.String()),
  bytes: Type.Number(),
})
/** An edit that waits to be sent: where it is, and not what it says. */
export type Waiting = Static<typeof Waiting>

/** @throws CodedError `internal_error` where the answer is no pull */
export const pulledOf = (answer: unknown): Pulled => {
  if (!Check(Pulled, answer)) throw new CodedError('internal_error', 'the answer is not one of a pull')
  return answer
}
/** @throws CodedError `internal_error` where the answer is no push */
export const pushedOf = (answer: unknown): Pushed => {
  if (!Check(Pushed, answer)) throw new CodedError('internal_error', 'the answer is not one of a push')
  return answer
}
/** @throws CodedError `internal_error` where the answer is none of edits */
export const waitingOf = ({ entries }: Readonly<Record<string, unknown>>): readonly Waiting[] => {
  if (!Check(Type.Array(Waiting), entries)) throw new CodedError('internal_error', 'the list is not one of edits')
  return entries
}
