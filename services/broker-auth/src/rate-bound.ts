/**
 * A bucket of tokens: so many a second, a second's worth at once. Milliseconds from any clock that never goes back: one
 * that is set back by an hour would otherwise keep everybody out for as long.
 */
export const createRateBound = (perSecond: number, now: () => number = () => performance.now()) => {
  let tokens = perSecond
  let last = now()
  /** Whether there is room for one more. */
  return (): boolean => {
    const time = now()
    tokens = Math.min(perSecond, tokens + ((time - last) / 1000) * perSecond)
    last = time
    if (tokens < 1) return false
    tokens -= 1
    return true
  }
}
