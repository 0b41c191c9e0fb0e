import { isReasonCode, type ReasonCode, reasonOf } from '@lenserfight/schemas'
import Type, { Check } from '@lenserfight/schemas/typebox'
import type { Outcome } from '../outbox/decide.ts'

const Entry = Type.Union([
  Type.Object({ status: Type.Enum(['applied', 'duplicate']) }),
  Type.Object({ code: Type.String(), detail: Type.Optional(Type.Union([Type.String(), Type.Null()])) }),
])

/** What the gateway said of one entry of a push. */
export type EntryResult =
  | { readonly status: 'applied' | 'duplicate' }
  | { readonly code: ReasonCode; readonly detail: string | null }

/** What the end of a push means for all that it carried. */
export type PushVerdict =
  | { readonly do: 'judge'; readonly entries: readonly EntryResult[] }
  /** The database was restored: what these edits rest on is learned anew first. */
  | { readonly do: 'pull'; readonly code: ReasonCode }
  /** Something in it cannot be read: half of it is sent next, until that is alone. */
  | { readonly do: 'halve'; readonly code: ReasonCode; readonly detail: string | null }
  /** It says nothing of the entries: they are sent again in another push. */
  | { readonly do: 'again'; readonly code: ReasonCode }

/** Codes that say nothing of what a push carried. */
const ofThePush: readonly ReasonCode[] = [
  'op_expired',
  'op_id_conflict',
  'internal_error',
  'device_revoked',
  'device_blocked',
  'device_unhealthy',
  'device_pending',
]

const readEntries = (result: unknown, count: number): EntryResult[] | undefined => {
  const entries = (result as { entries?: unknown } | undefined)?.entries
  if (!Array.isArray(entries) || entries.length !== count || !entries.every((each) => Check(Entry, each)))
    return undefined
  const read = entries.map((each): EntryResult | undefined => {
    if ('status' in each) return { status: each.status as 'applied' | 'duplicate' }
    return isReasonCode(each.code) ? { code: each.code, detail: each.detail ?? null } : undefined
  })
  return read.every((each) => each !== undefined) ? read : undefined
}

/** @param count how many entries it carried */
export const decidePush = (outcome: Outcome, count: number): PushVerdict => {
  if (outcome.ok) {
    const entries = readEntries(outcome.result, count)
    return entries === undefined ? { do: 'again', code: 'internal_error' } : { do: 'judge', entries }
  }
  const { code = 'internal_error', detail = null } = outcome
  if (code === 'resync_required') return { do: 'pull', code }
  return ofThePush.includes(code) ? { do: 'again', code } : { do: 'halve', code, detail }
}

/** What becomes of an object's edits by what was said of one of them. */
export type EntryVerdict = 'applied' | 'wait' | 'renew' | 'rebase' | 'set_aside'

/**
 * @param isFirst whether it was the first of its object in the push: all before it were merged
 * @param wasRebased whether the object was written anew for this a short while ago, so that once more would not help
 */
export const decideEntry = (said: EntryResult, at: { isFirst: boolean; wasRebased: boolean }): EntryVerdict => {
  if ('status' in said) return 'applied'
  if (said.code === 'clock_reused') return 'renew'
  // With none before it on its way, what it awaits is what the gateway had once and has no more.
  const isAhead = said.code === 'clock_ahead' || (said.code === 'out_of_order' && at.isFirst)
  if (isAhead) return at.wasRebased ? 'set_aside' : 'rebase'
  return reasonOf(said.code).next === 'stop' ? 'set_aside' : 'wait'
}
