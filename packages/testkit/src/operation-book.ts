import { canonicalize } from '@lenserfight/envelope'
import { type AnswerBody, type NextStep, type ReceiptItem, reasonOf } from '@lenserfight/schemas'

/** What the gateway says of one envelope, in a receipt or an answer. */
export type Outcome = Pick<ReceiptItem & AnswerBody, 'digest' | 'ok' | 'code' | 'detail' | 'result' | 'retry_after'>

/** An operation under way: signed anew for each attempt, settled once. */
export interface Entry {
  /** `op_id`; of what is no operation, an id of its own. */
  readonly id: string
  readonly kind: string
  readonly body: object
  /** Digests of all attempts, the latest last. */
  readonly digests: string[]
  outcome?: Outcome
}

/** The gateway said two things where it must say one (law 2). */
export interface Contradiction {
  /** `envelope`: two receipts of one digest differ. `operation`: two final results of one operation do. */
  readonly of: 'envelope' | 'operation'
  readonly id: string
  readonly kind: string
  readonly before: Outcome
  readonly after: Outcome
}

/** What an outcome means to the edge that hears it. */
export type Step = 'unknown' | 'repeated' | 'stale' | 'settled' | Exclude<NextStep, 'stop'>

const nextOf = ({ ok, code }: Outcome): NextStep => (ok || code === undefined ? 'stop' : reasonOf(code).next)

/** What of an outcome two receipts must agree on; when to come again may differ. */
export const meaningOf = ({ ok, code, detail, result }: Omit<Outcome, 'digest'>): string =>
  canonicalize(JSON.parse(JSON.stringify({ ok, code, detail, result })))

/** Remembers every envelope sent and everything that was said of it, and notices when that does not agree. Pure. */
export const createOperationBook = () => {
  const entries = new Map<string, Entry>()
  const outcomes = new Map<string, Outcome>()
  const contradictions: Contradiction[] = []

  const compare = (of: Contradiction['of'], { id, kind }: Entry, before: Outcome, after: Outcome): void => {
    if (meaningOf(before) !== meaningOf(after)) contradictions.push({ of, id, kind, before, after })
  }
  const sent = (entry: Entry, digest: string): void => {
    entry.digests.push(digest)
    entries.set(digest, entry)
  }
  const stepOf = (entry: Entry, outcome: Outcome): Step => {
    const next = nextOf(outcome)
    if (entry.outcome !== undefined) {
      if (next === 'stop') compare('operation', entry, entry.outcome, outcome)
      return 'stale'
    }
    if (next === 'stop') {
      entry.outcome = outcome
      return 'settled'
    }
    // A refusal of an earlier attempt says nothing of the one under way.
    return entry.digests.at(-1) === outcome.digest ? next : 'stale'
  }
  /** Takes an outcome in and says what follows from it; without `entry` where nobody asked. */
  const hear = <E extends Entry>(outcome: Outcome): { entry?: E; step: Step } => {
    const entry = entries.get(outcome.digest) as E | undefined
    if (entry === undefined) return { step: 'unknown' }
    const before = outcomes.get(outcome.digest)
    if (before !== undefined) {
      compare('envelope', entry, before, outcome)
      return { entry, step: 'repeated' }
    }
    outcomes.set(outcome.digest, outcome)
    return { entry, step: stepOf(entry, outcome) }
  }
  return {
    sent,
    hear,
    contradictions: contradictions as readonly Contradiction[],
    outcomes: outcomes as ReadonlyMap<string, Outcome>,
  }
}
