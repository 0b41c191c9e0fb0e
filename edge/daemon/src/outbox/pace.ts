import { limits } from '@lenserfight/schemas'
import { firstResendMs, resendDelayMs, smooth, type Timing, windowAfter } from './decide.ts'

/** How much may be in flight and how long to wait for a receipt, learned from those that came and those that did not. */
export interface Pace {
  readonly window: () => number
  /** The smoothed time from sending to receipt; undefined before the first. */
  readonly smoothedMs: () => number | undefined
  /** How long to wait for the receipt of the attempt of this number. */
  readonly patienceMs: (attempt: number) => number
  readonly receiptAfter: (ms: number) => void
  /** An operation ended: there is room for one more. */
  readonly ended: () => void
  /** A receipt is missing, or asked for less. */
  readonly press: (now: number) => void
}

export const createPace = (timing: Timing, random: () => number): Pace => {
  let window: number = limits.inFlight
  let smoothedMs: number | undefined
  let lastPressureAt = Number.NEGATIVE_INFINITY
  return {
    window: () => window,
    smoothedMs: () => smoothedMs,
    patienceMs: (attempt) => resendDelayMs(attempt, { smoothedMs, random: random(), timing }),
    receiptAfter: (ms) => {
      smoothedMs = smooth(smoothedMs, Math.max(0, ms))
    },
    ended: () => {
      window = windowAfter(window, 'receipt')
    },
    press: (now) => {
      // One halving for one silence, however many messages it swallowed.
      if (now - lastPressureAt < firstResendMs({ smoothedMs, timing })) return
      lastPressureAt = now
      window = windowAfter(window, 'pressure')
    },
  }
}
