import type { Timing } from '../outbox/decide.ts'

/** A wait of between half of and once and a half this long. @param random in [0, 1) */
export const jittered = (ms: number, random: number): number => Math.round(ms * (0.5 + random))

/** How long to wait after so many failures: doubling to the ceiling, with full jitter above the floor. @param random in [0, 1) */
export const backoffMs = (
  failures: number,
  { resendFloorMs: floor, resendCeilingMs: most }: Pick<Timing, 'resendFloorMs' | 'resendCeilingMs'>,
  random: number,
): number => {
  const ceiling = Math.min(most, floor * 2 ** Math.min(failures, 30))
  return Math.round(floor + random * Math.max(0, ceiling - floor))
}
