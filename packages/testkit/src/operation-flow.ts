import type { KindName } from '@lenserfight/schemas'
import { createOperationBook, type Entry, type Outcome } from './operation-book.ts'
import { createResendClock, createWindow, type ResendTiming } from './pacing.ts'

/** An operation that somebody waits for. */
export interface Pending extends Entry {
  readonly kind: KindName
  readonly onSettled: (outcome: Outcome) => void
  sentAt: number
  waits: number
  timer?: NodeJS.Timeout
}

export interface FlowOptions {
  readonly resend: ResendTiming
  /** Envelopes in flight at most. */
  readonly window: number | undefined
  readonly isConnected: () => boolean
  /** Signs anew, publishes, and returns the digest (base64url) of what went out. */
  readonly transmit: (entry: Pending) => string
}

/** First and longest wait after a refusal that may pass; milliseconds. */
const wait = { floorMs: 250, ceilingMs: 15_000 }

/**
 * Drives operations to their end (protocol.md, Receipts and operations): in flight within the window, sent again when
 * nothing is heard, and after a refusal what its code says.
 */
export const createOperationFlow = ({ resend, window: most, isConnected, transmit }: FlowOptions) => {
  const book = createOperationBook()
  const clock = createResendClock(resend)
  const window = createWindow(most)
  const queue = new Set<Pending>()
  const flying = new Set<Pending>()
  const resting = new Set<Pending>()
  const counts = { sent: 0, resent: 0, repeated: 0, unknown: 0 }
  const refused: Record<string, number> = {}
  let closed = false

  /** Sends what the window has room for. */
  const pump = (): void => {
    for (const entry of queue) {
      if (closed || flying.size >= window.size() || !isConnected()) return
      queue.delete(entry)
      flying.add(entry)
      book.sent(entry, transmit(entry))
      counts.sent += 1
      entry.sentAt = Date.now()
      entry.timer = setTimeout(onSilence, clock.delay(entry.digests.length), entry)
    }
  }
  const begin = (entry: Pending): void => {
    queue.add(entry)
    pump()
  }
  const onSilence = (entry: Pending): void => {
    flying.delete(entry)
    counts.resent += 1
    window.halve()
    begin(entry)
  }
  const settle = (entry: Pending, outcome: Outcome): void => {
    window.regain()
    queue.delete(entry)
    resting.delete(entry)
    entry.onSettled(outcome)
  }
  const restAfter = (entry: Pending, step: 'resign' | 'wait', { code, retry_after }: Outcome): void => {
    if (code !== undefined) refused[code] = (refused[code] ?? 0) + 1
    if (queue.has(entry)) return
    if (retry_after !== undefined) window.halve()
    entry.waits += 1
    // Signed anew at once where that alone helps; a code that keeps coming is not answered in a busy loop.
    const backoff = Math.min(wait.ceilingMs, wait.floorMs * 2 ** Math.min(entry.waits, 10))
    const delay = step === 'resign' && entry.waits === 1 ? 0 : retry_after === undefined ? backoff : retry_after * 1000
    resting.add(entry)
    entry.timer = setTimeout(() => {
      resting.delete(entry)
      begin(entry)
    }, delay)
  }
  /** Takes in what the gateway says of one envelope. */
  const hear = (outcome: Outcome): void => {
    const { entry, step } = book.hear<Pending>(outcome)
    if (step === 'unknown' || step === 'repeated') counts[step] += 1
    if (entry === undefined || step === 'unknown' || step === 'repeated' || step === 'stale') return
    clearTimeout(entry.timer)
    flying.delete(entry)
    if (entry.digests.length === 1) clock.observe(Date.now() - entry.sentAt)
    if (step === 'settled') settle(entry, outcome)
    else restAfter(entry, step, outcome)
    pump()
  }
  const close = (): void => {
    closed = true
    for (const { timer } of [...flying, ...resting]) clearTimeout(timer)
  }
  const { contradictions, outcomes } = book
  const stats = () => ({ ...counts, refused })
  return { begin, pump, hear, close, stats, inFlight: (): number => flying.size, contradictions, outcomes }
}
