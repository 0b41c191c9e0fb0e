export interface Budget {
  /** Whether one more may be had now; takes it if so. */
  readonly take: () => boolean
}

/** A token bucket: at most `perSecond` at once, filling up at that rate. */
export const createBudget = (perSecond: number, now: () => number = Date.now): Budget => {
  let left = perSecond
  let at = now()
  const take = (): boolean => {
    const time = now()
    left = Math.min(perSecond, left + (Math.max(0, time - at) / 1000) * perSecond)
    at = time
    if (left < 1) return false
    left -= 1
    return true
  }
  return { take }
}
