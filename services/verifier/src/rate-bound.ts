/** Lets so many a second pass, with a second's worth at once. Milliseconds from any clock that never goes back. */
export const createRateBound = (perSecond: number, now: () => number = () => performance.now()) => {
  let tokens = perSecond
  let last = now()
  return (): boolean => {
    const at = now()
    tokens = Math.min(perSecond, tokens + ((at - last) * perSecond) / 1000)
    last = at
    if (tokens < 1) return false
    tokens -= 1
    return true
  }
}
