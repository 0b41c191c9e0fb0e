/** How a client comes back after it lost its broker. Milliseconds. */
export interface ReconnectTiming {
  /** Never sooner than this after a failure. */
  readonly floorMs: number
  /** The first attempt comes within this; each further one within twice the one before. */
  readonly firstCeilingMs: number
  readonly ceilingMs: number
}

/** protocol.md: full jitter, 0.5 to 30 s. Thousands of edges lose their broker at once; they must not come back at once. */
export const edgeReconnect: ReconnectTiming = { floorMs: 500, firstCeilingMs: 4000, ceilingMs: 30_000 }
/** Workers are few, and everything waits for them: they are back before the first edge. */
export const serviceReconnect: ReconnectTiming = { floorMs: 100, firstCeilingMs: 400, ceilingMs: 5000 }

export interface ReconnectPlan {
  /** The client's `reconnectDelayHandler`. */
  readonly delay: () => number
  /** The connection stands: the next loss starts from the shortest delay again. */
  readonly connected: () => void
  /** The connection is left on purpose, by this client alone: the next attempt comes at once. One that fails is a failure. */
  readonly leaving: () => void
}

/** Full jitter: anywhere between the floor and a ceiling that doubles with each failed attempt. */
export const jitteredDelay = (timing: ReconnectTiming, attempt: number, random = Math.random): number => {
  const ceiling = Math.min(timing.ceilingMs, timing.firstCeilingMs * 2 ** Math.min(attempt, 30))
  return timing.floorMs + random() * Math.max(0, ceiling - timing.floorMs)
}

/**
 * The client asks for a delay again after every sleep and measures it from its last dial, so a fresh random number each
 * time would be the least of several, and none at all after a long connection. This gives one point in time an attempt.
 * The very first connection is not delayed.
 */
export const planReconnects = (timing: ReconnectTiming, now: () => number = Date.now): ReconnectPlan => {
  let failures = -1
  let lastDial = now()
  let due: number | undefined = lastDial
  return {
    delay: () => {
      const time = now()
      due ??= time + jitteredDelay(timing, failures)
      if (time < due) return Math.ceil(due - lastDial)
      due = undefined
      lastDial = time
      failures += 1
      return 0
    },
    connected: () => {
      failures = 0
      due = undefined
    },
    leaving: () => {
      due = now()
    },
  }
}
