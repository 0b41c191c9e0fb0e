import { actorPattern, limits, pullableClasses, type ReasonCode } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { countOf, covers, digestOf, type ObjectState } from '@lenserfight/sync'

const Seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Count = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const Clock = Type.Record(Type.String({ pattern: actorPattern }), Count, { additionalProperties: false })
const Write = Type.Object({ actor: Type.String(), clock: Clock, value: Type.Unknown() })
const State = Type.Object({
  clock: Clock,
  paths: Type.Record(Type.String(), Type.Array(Write, { minItems: 1 })),
})
const name = { seq: Seq, object: Type.String({ minLength: 1, maxLength: 128 }) }
const Row = Type.Union([
  Type.Object({ ...name, op: Type.Enum(['upsert', 'delete']), state: State, digest: Type.String() }),
  Type.Object({ ...name, op: Type.Literal('purge') }),
])
const Part = Type.Union([
  Type.Object({
    after: Seq,
    upto: Seq,
    more: Type.Boolean(),
    rows: Type.Array(Row, { maxItems: limits.pullRows }),
    checksum: Type.Optional(Type.Object({ count: Type.Integer({ minimum: 0 }), xor: Type.String() })),
  }),
  Type.Object({
    code: Type.Enum(['resync_required', 'cursor_ahead', 'unknown_class', 'local_only_class']),
  }),
])
const Page = Type.Object({
  epoch: Type.Integer({ minimum: 1 }),
  more: Type.Boolean(),
  classes: Type.Record(Type.String(), Part),
})

export type FeedRow =
  | {
      readonly seq: number
      readonly object: string
      readonly op: 'upsert' | 'delete'
      readonly state: ObjectState
      readonly digest: string
    }
  | { readonly seq: number; readonly object: string; readonly op: 'purge' }
/** What a page says of one class: the rows in (after, upto], or why there are none. */
export type FeedPart =
  | {
      readonly after: number
      readonly upto: number
      readonly more: boolean
      readonly rows: readonly FeedRow[]
      readonly checksum?: { readonly count: number; readonly xor: string }
    }
  | { readonly code: Extract<ReasonCode, 'resync_required' | 'cursor_ahead' | 'unknown_class' | 'local_only_class'> }
/** One answer to a pull. */
export interface FeedPage {
  readonly epoch: number
  readonly more: boolean
  readonly classes: Readonly<Record<string, FeedPart>>
}

const isInOrder = (part: FeedPart): boolean => {
  if ('code' in part) return true
  let last = part.after
  return (
    part.upto >= part.after &&
    part.rows.every(({ seq }) => {
      const isNext = seq > last && seq <= part.upto
      last = seq
      return isNext
    })
  )
}

/** Rule 1: each write counts its writer, nothing was written that the state has not seen, and JSON can say it. */
const isState = (state: ObjectState): boolean => {
  const isSound = Object.values(state.paths).every((writes) =>
    writes.every(({ actor, clock }) => countOf(clock, actor) > 0 && covers(state.clock, clock)),
  )
  if (!isSound) return false
  try {
    digestOf(state)
    return true
  } catch {
    return false
  }
}
const hasStates = (part: FeedPart): boolean =>
  'code' in part || part.rows.every((row) => row.op === 'purge' || isState(row.state))

/** A pull's result, or undefined for what is none: nothing of such is kept, and the cursor stays. */
export const readFeedPage = (result: unknown): FeedPage | undefined => {
  if (!Check(Page, result)) return undefined
  const page = result as Static<typeof Page> as unknown as FeedPage
  const names: readonly string[] = pullableClasses
  // A class that was not asked for has no cursor to move.
  const isKnown = Object.entries(page.classes).every(
    ([each, part]) => names.includes(each) && isInOrder(part) && hasStates(part),
  )
  return isKnown ? page : undefined
}
