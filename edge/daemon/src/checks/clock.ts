import { performance } from 'node:perf_hooks'
import { type AnswerBody, limits } from '@lenserfight/schemas'
import type { Verdict } from './types.ts'

/** A clock as seen against the gateway's: theirs less ours, milliseconds, give or take. */
export interface ClockReading {
  readonly offset_ms: number
  readonly uncertainty_ms: number
}

/** Times in signed answers are whole seconds, rounded down: the middle of that second is the best guess. */
const halfSecondMs = 500

/**
 * Where the gateway's clock stands by a signed answer that came `elapsedMs` after `sentAt`: compared with the middle of
 * the round trip, since the answer was written somewhere within.
 * @param sentAt by this machine's clock, milliseconds since 1970
 * @param time of the answer, seconds since 1970
 */
export const readClock = (sentAt: number, elapsedMs: number, time: number): ClockReading => ({
  offset_ms: Math.round(time * 1000 + halfSecondMs - (sentAt + elapsedMs / 2)),
  uncertainty_ms: Math.round(halfSecondMs + elapsedMs / 2),
})

/** Asks once, and reads the clock off the answer, whatever it says: a refusal is signed and dated too. */
export const measureClock = async (
  ask: () => Promise<AnswerBody>,
  now: () => number = Date.now,
): Promise<{ answer: AnswerBody; clock: ClockReading }> => {
  const sentAt = now()
  const began = performance.now()
  const answer = await ask()
  return { answer, clock: readClock(sentAt, performance.now() - began, answer.time) }
}

/** Whether a clock this far off makes every signature stale (RP-1). */
export const isClockOff = (offsetMs: number): boolean => Math.abs(offsetMs) > limits.iatWindowSeconds * 1000

const inWords = (offsetMs: number): string => {
  const seconds = Math.abs(offsetMs) / 1000
  const much = seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`
  return offsetMs < 0 ? `${much} ahead of the gateway’s` : `${much} behind the gateway’s`
}

/** The clock: only what is over 300 s off is wrong (RFC-0003 §8), because that alone makes signatures stale. */
export const judgeClock = (clock: ClockReading, by: string): Verdict => {
  const { offset_ms, uncertainty_ms } = clock
  const data = { offset_ms, uncertainty_ms, by }
  if (isClockOff(offset_ms)) return { ok: false, code: 'clock_skew', detail: `it is ${inWords(offset_ms)}`, data }
  const isSame = Math.abs(offset_ms) <= uncertainty_ms
  return {
    ok: true,
    detail: isSame ? `the gateway’s, to within ${uncertainty_ms} ms` : `it is ${inWords(offset_ms)}`,
    data,
  }
}
