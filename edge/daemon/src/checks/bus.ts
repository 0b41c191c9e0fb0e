import { CodedError } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import type { Verdict } from './types.ts'

/** When a canary was where, milliseconds since 1970: `sent_at` and `received_at` by this machine's clock. */
export const CanaryTimes = Type.Object({
  sent_at: Type.Number(),
  stored_at_ms: Type.Number(),
  claimed_at_ms: Type.Number(),
  applied_at_ms: Type.Number(),
  received_at: Type.Number(),
})
export type CanaryTimes = Static<typeof CanaryTimes>

/** How long each hop took, milliseconds. */
export interface Hops {
  /** From this machine into the broker's store. */
  readonly to_stored: number
  /** Until the verifier had it claimed in the database. */
  readonly to_claimed: number
  /** Until the evaluator had applied it. */
  readonly to_applied: number
  /** Until its signed receipt was here. */
  readonly back: number
  readonly total: number
}

/**
 * The hops of a canary, and this machine's clock against the gateway's, by the four times of an exchange (RFC 5905 §8).
 * The hops within the gateway are its own clocks' differences. The two between the clocks are known only together: each
 * is given half.
 */
export const hopsOf = (times: CanaryTimes): { hops: Hops; offset_ms: number } => {
  const { sent_at, stored_at_ms, claimed_at_ms, applied_at_ms, received_at } = times
  const total = received_at - sent_at
  const half = (total - (applied_at_ms - stored_at_ms)) / 2
  const hops = {
    to_stored: Math.round(half),
    to_claimed: Math.round(claimed_at_ms - stored_at_ms),
    to_applied: Math.round(applied_at_ms - claimed_at_ms),
    back: Math.round(half),
    total: Math.round(total),
  }
  return { hops, offset_ms: Math.round((stored_at_ms + applied_at_ms - sent_at - received_at) / 2) }
}

/**
 * The bus: that an envelope goes through every hop and its receipt comes back. Pure.
 * @throws CodedError `internal_error` where the times are none
 */
export const judgeBus = (times: unknown): Verdict => {
  if (!Check(CanaryTimes, times)) throw new CodedError('internal_error', 'the canary came back without its times')
  const { hops, offset_ms } = hopsOf(times)
  const { to_stored, to_claimed, to_applied, back, total } = hops
  const within = `stored ${to_stored}, claimed ${to_claimed}, applied ${to_applied}, back ${back} ms`
  const detail = `${total} ms: ${within} (first and last are halves of what two clocks show together)`
  return { ok: true, detail, data: { hops, offset_ms, times } }
}
