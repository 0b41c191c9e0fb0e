import { CodedError, Nullable } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'

const Written = Type.Object({ actor: Type.String(), value: Type.Unknown() })
const ObjectView = Type.Object({
  class: Type.String(),
  object: Type.String(),
  /** Who decides it; null of a class that this program does not know. */
  authority: Nullable(Type.String()),
  alive: Type.Boolean(),
  /** As they read here, deleted ones left out. */
  paths: Type.Record(Type.String(), Type.Unknown()),
  conflicts: Type.Array(
    Type.Object({
      path: Type.String(),
      sides: Type.Array(Written),
    }),
  ),
  /** Written at the same time as what is read, and not read. */
  beside: Type.Array(Type.Object({ path: Type.String(), writes: Type.Array(Written) })),
  /** Paths written by who had not seen that it was deleted. */
  edited_while_deleted: Type.Array(Type.String()),
  /** Edits that have no result yet. */
  pending: Type.Number(),
  set_aside: Nullable(Type.Object({ code: Type.String(), detail: Nullable(Type.String()), at: Type.Number() })),
  changed_at: Type.Number(),
})
/** An object as it reads on this machine. Times are Unix milliseconds. */
export type ObjectView = Static<typeof ObjectView>

const Listed = Type.Object({
  class: Type.String(),
  object: Type.String(),
  alive: Type.Boolean(),
  pending: Type.Number(),
  /** The code that its edits were refused with. */
  set_aside: Nullable(Type.String()),
  conflicts: Type.Number(),
  /** Paths with a write that is not read. */
  beside: Type.Number(),
  changed_at: Type.Number(),
})
export type Listed = Static<typeof Listed>

export interface ObjectList {
  readonly objects: Listed[]
  readonly more: boolean
}

/** @throws CodedError `internal_error` where the answer is no object */
export const objectOf = (answer: unknown): ObjectView => {
  if (!Check(ObjectView, answer)) throw new CodedError('internal_error', 'the answer is not an object')
  return answer
}

/** @throws CodedError `internal_error` where the answer is none of objects */
export const listOf = ({ objects, more }: Readonly<Record<string, unknown>>): ObjectList => {
  if (!Check(Type.Array(Listed), objects)) throw new CodedError('internal_error', 'the list is not one of objects')
  return { objects, more: more === true }
}
