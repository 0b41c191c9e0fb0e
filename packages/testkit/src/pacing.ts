import { limits } from '@lenserfight/schemas'

/** When an operation without an answer is sent again. Milliseconds. */
export interface ResendTiming {
  readonly floorMs: number
  readonly ceilingMs: number
}

/** protocol.md, Receipts and operations. */
export const resendTiming: ResendTiming = {
  floorMs: limits.resendFloorSeconds * 1000,
  ceilingMs: limits.resendCeilingSeconds * 1000,
}

/** The first re-send after max(floor, 4 × smoothed receipt time), then doubling with full jitter up to the ceiling. */
export const createResendClock = ({ floorMs, ceilingMs }: ResendTiming, random: () => number = Math.random) => {
  let smoothed = 0
  return {
    /** How long to wait after the attempt of this number, the first being 1. */
    delay: (attempt: number): number => {
      const base = Math.min(ceilingMs, Math.max(floorMs, 4 * smoothed))
      if (attempt === 1) return base
      return base + random() * (Math.min(ceilingMs, base * 2 ** Math.min(attempt - 1, 30)) - base)
    },
    /** Takes the time from sending to receipt of something sent once: of what was sent twice nobody knows which it answers. */
    observe: (elapsedMs: number): void => {
      smoothed = smoothed === 0 ? elapsedMs : smoothed + (elapsedMs - smoothed) / 8
    },
  }
}

/** How many envelopes may be in flight: halved by back-pressure, at most once in a while, and regained one by one. */
export const createWindow = (most: number = limits.inFlight, calmMs = 1000, now: () => number = Date.now) => {
  let size = most
  let halvedAt = Number.NEGATIVE_INFINITY
  return {
    size: (): number => Math.floor(size),
    halve: (): void => {
      if (now() - halvedAt < calmMs) return
      halvedAt = now()
      size = Math.max(8, size / 2)
    },
    regain: (): void => {
      size = Math.min(most, size + 1)
    },
  }
}
