/** Starts from the clock, in microseconds, so that a program that is started again goes on above what it used before. */
let last = Date.now() * 1000

/** A counter that no envelope of this process had before, rising (protocol.md, Clone detection). */
export const nextCounter = (): number => {
  last += 1
  return last
}
