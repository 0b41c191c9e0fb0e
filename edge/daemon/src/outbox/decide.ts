import { limits, type ReasonCode, type ReceiptItem, reasonOf } from '@lenserfight/schemas'

/** `waiting`: due at its time. `sent`: in flight until its time, when it counts as unanswered. */
export const operationStates = ['waiting', 'sent', 'done', 'failed'] as const
export type OperationState = (typeof operationStates)[number]

/** What an operation ended in: the result that was committed, or the code that it was refused with for good. */
export interface Outcome {
  readonly ok: boolean
  readonly code?: ReasonCode
  readonly detail?: string
  readonly result?: Readonly<Record<string, unknown>>
  readonly incident_id?: string
}

/** What is decided upon of an operation. Times are milliseconds since 1970. */
export interface Progress {
  readonly state: OperationState
  /** How often it was sent. */
  readonly attempts: number
  /** How often it was refused and is to be sent again. */
  readonly refusals: number
}

/** When things are sent again, in milliseconds. */
export interface Timing {
  readonly resendFloorMs: number
  readonly resendCeilingMs: number
  /** After a refusal that a new signature may cure. */
  readonly resignFloorMs: number
}

export const defaultTiming: Timing = {
  resendFloorMs: limits.resendFloorSeconds * 1000,
  resendCeilingMs: limits.resendCeilingSeconds * 1000,
  resignFloorMs: 250,
}

/** What a decision rests on besides the operation. */
export interface Circumstances {
  readonly now: number
  /** Smoothed time from sending to receipt; undefined before the first. */
  readonly smoothedMs: number | undefined
  /** In [0, 1). */
  readonly random: number
  readonly timing: Timing
}

/** The first re-send comes after max(floor, 4 × the smoothed receipt time), never after more than the ceiling. */
export const firstResendMs = ({ smoothedMs, timing }: Pick<Circumstances, 'smoothedMs' | 'timing'>): number =>
  Math.min(timing.resendCeilingMs, Math.max(timing.resendFloorMs, Math.round(4 * (smoothedMs ?? 0))))

/** How long to wait for a receipt of the attempt of this number (from 1): doubling, with full jitter above the floor. */
export const resendDelayMs = (attempt: number, around: Omit<Circumstances, 'now'>): number => {
  const first = firstResendMs(around)
  if (attempt <= 1) return first
  const ceiling = Math.min(around.timing.resendCeilingMs, first * 2 ** Math.min(attempt - 1, 30))
  return Math.round(first + around.random * (ceiling - first))
}

const resignDelayMs = (refusals: number, { random, timing }: Circumstances): number => {
  const ceiling = Math.min(timing.resendCeilingMs, timing.resignFloorMs * 2 ** Math.min(refusals, 30))
  return Math.round(ceiling * (0.5 + random / 2))
}

export type Decision =
  | { readonly do: 'ignore' }
  | { readonly do: 'finish'; readonly state: 'done' | 'failed'; readonly outcome: Outcome }
  /** Sign and send again at that time; `pressure`: the gateway asked for less. */
  | { readonly do: 'again'; readonly at: number; readonly code: ReasonCode; readonly pressure: boolean }

const outcomeOf = ({ ok, code, detail, result, incident_id }: ReceiptItem): Outcome => ({
  ok,
  ...(code === undefined ? {} : { code }),
  ...(detail === undefined ? {} : { detail }),
  ...(result === undefined ? {} : { result }),
  ...(incident_id === undefined ? {} : { incident_id }),
})

const pressureCodes: readonly ReasonCode[] = ['rate_limited', 'unavailable']

/**
 * What a receipt for one of an operation's attempts means (protocol.md, Receipts and operations). A committed result
 * outranks every rejection; a rejection that is not final says nothing once a newer attempt is on its way.
 * @param isLatest whether the receipt names the newest attempt
 */
export const decideReceipt = (
  operation: Progress,
  item: ReceiptItem,
  around: Circumstances & { readonly isLatest: boolean },
): Decision => {
  if (operation.state === 'done') return { do: 'ignore' }
  if (item.ok) return { do: 'finish', state: 'done', outcome: outcomeOf(item) }
  if (operation.state === 'failed') return { do: 'ignore' }
  const code = item.code ?? 'internal_error'
  const { next } = reasonOf(code)
  if (next === 'stop') return { do: 'finish', state: 'failed', outcome: { ...outcomeOf(item), code } }
  if (!around.isLatest) return { do: 'ignore' }
  const delay =
    next === 'resign' ? resignDelayMs(operation.refusals, around) : resendDelayMs(operation.attempts, around)
  const asked = item.retry_after === undefined ? 0 : item.retry_after * 1000
  return {
    do: 'again',
    at: around.now + Math.max(asked, delay),
    code,
    pressure: item.retry_after !== undefined || pressureCodes.includes(code),
  }
}

/** The in-flight window after a receipt (grows by one) or back-pressure (halves). */
export const windowAfter = (size: number, event: 'receipt' | 'pressure'): number =>
  event === 'receipt' ? Math.min(limits.inFlight, size + 1) : Math.max(1, Math.floor(size / 2))

/** The smoothed receipt time after a sample (RFC 6298's weight of one eighth). Milliseconds. */
export const smooth = (smoothedMs: number | undefined, sampleMs: number): number =>
  smoothedMs === undefined ? sampleMs : smoothedMs + (sampleMs - smoothedMs) / 8
