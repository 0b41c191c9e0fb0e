import { limits, type ReasonCode } from '@lenserfight/schemas'
import { covers, type ObjectName } from '@lenserfight/sync'
import type { Outcome } from '../outbox/decide.ts'
import { beginSnapshot } from './apply-page.ts'
import { decideEntry, decidePush, type EntryResult, type EntryVerdict } from './push-result.ts'
import type { SyncTables } from './tables.ts'
import { renewed, setAside } from './transitions.ts'
import type { Editor, Kept, OutboxEntry } from './types.ts'

/** What a push came to. */
export interface Settled {
  readonly do: 'judge' | 'pull' | 'halve' | 'again'
  readonly applied: number
  readonly duplicate: number
  readonly refused: number
  /** How many it carried. */
  readonly count: number
  /** The newest refusal of it or of an entry. */
  readonly code: ReasonCode | null
  /** Some edits were written again, on what is yet to be pulled. */
  readonly isRebasing: boolean
}

export interface SettleContext {
  readonly tables: SyncTables
  readonly by: Editor
  /** Until when an entry that is to wait does, milliseconds since 1970. */
  readonly retryAt: number
}

interface Carried extends ObjectName {
  readonly id: number
  readonly place: number
}

/** With these edits merged. What the feed brought already is kept no longer. */
const marked = (kept: Kept, ids: ReadonlySet<number>): Kept => {
  const { confirmed } = kept.record
  const entries = kept.entries.map((entry) =>
    entry.id !== undefined && ids.has(entry.id) ? { ...entry, isApplied: true } : entry,
  )
  const isBack = ({ isApplied, delta }: OutboxEntry): boolean =>
    isApplied && confirmed !== null && covers(confirmed.clock, delta.clock)
  return { ...kept, entries: entries.filter((entry) => !isBack(entry)) }
}

const turned = (kept: Kept, verdict: EntryVerdict, said: EntryResult, { by, retryAt }: SettleContext): Kept => {
  if ('status' in said) return kept
  if (verdict === 'renew') return renewed(kept, by)
  if (verdict === 'rebase') return { ...kept, record: { ...kept.record, isRebasing: true, rebasedAt: by.now } }
  if (verdict === 'set_aside') return setAside(kept, said, by.now)
  return { ...kept, record: { ...kept.record, notBefore: retryAt } }
}

/** The edits of one object by what was said of each: the first that was not merged decides for all after it. */
const settleObject = (
  context: SettleContext,
  carried: readonly Carried[],
  said: readonly EntryResult[],
): EntryVerdict | undefined => {
  const { tables, by } = context
  const [first] = carried
  const before = first && tables.find(first)
  if (before === undefined) return undefined
  const { rebasedAt } = before.record
  const wasRebased = rebasedAt !== null && Math.abs(by.now - rebasedAt) < limits.resyncSeconds * 1000
  const verdicts = carried.map(({ place }, index) => ({
    place,
    verdict: decideEntry(said[place] as EntryResult, { isFirst: index === 0, wasRebased }),
  }))
  const applied = verdicts.flatMap(({ verdict }, index) => (verdict === 'applied' ? [carried[index]?.id ?? -1] : []))
  const turn = verdicts.find(({ verdict }) => verdict !== 'applied')
  const kept = marked(before, new Set(applied))
  tables.save(before, turn === undefined ? kept : turned(kept, turn.verdict, said[turn.place] as EntryResult, context))
  return turn?.verdict
}

const judge = (context: SettleContext, carried: readonly Carried[], said: readonly EntryResult[]) => {
  const { tables } = context
  const groups = Map.groupBy(carried, ({ class: className, object }) => `${className}/${object}`)
  const rebasing = new Set<string>()
  for (const group of groups.values()) {
    if (settleObject(context, group, said) === 'rebase') rebasing.add((group[0] as Carried).class)
  }
  for (const cursor of tables.cursors()) if (rebasing.has(cursor.class)) beginSnapshot(tables, cursor)
  return rebasing.size > 0
}

const countOf = (said: readonly EntryResult[], status: string): number =>
  said.filter((each) => 'status' in each && each.status === status).length

/**
 * What the end of a push means for the edits that it carried, each once: within the transaction they are in no push any more.
 * Call it within a transaction.
 * @param push undefined where it is no longer known: what was merged is a duplicate then
 */
export const settlePush = (
  context: SettleContext,
  opId: string,
  push: { readonly outcome: Outcome; readonly count: number } | undefined,
): Settled => {
  const { tables, by } = context
  const carried = tables.carriedBy(opId)
  const verdict =
    push === undefined ? ({ do: 'again', code: 'internal_error' } as const) : decidePush(push.outcome, push.count)
  tables.putBack(opId)
  const nothing = { applied: 0, duplicate: 0, refused: 0, count: carried.length, isRebasing: false }
  if (verdict.do === 'judge') {
    const { entries } = verdict
    const isRebasing = judge(context, carried, entries)
    const refusals = entries.flatMap((each) => ('code' in each ? [each.code] : []))
    return {
      ...{ do: verdict.do, count: carried.length, isRebasing, code: refusals.at(-1) ?? null },
      ...{ applied: countOf(entries, 'applied'), duplicate: countOf(entries, 'duplicate'), refused: refusals.length },
    }
  }
  const [only] = carried
  if (verdict.do !== 'halve' || carried.length !== 1 || only === undefined)
    return { ...nothing, do: verdict.do, code: verdict.code }
  const before = tables.find(only)
  if (before !== undefined) tables.save(before, setAside(before, verdict, by.now))
  return { ...nothing, do: verdict.do, code: verdict.code, refused: 1 }
}
