import { uptime } from 'node:os'
import { performance } from 'node:perf_hooks'

/** Milliseconds since it was started, those included in which the machine slept, as far as the system tells them. */
export type Stopwatch = () => number

/** How long the machine is up. Linux and Windows count its sleep; Node’s own clock does not on Linux. */
const upMs = (): number => {
  try {
    return uptime() * 1000
  } catch {
    return 0
  }
}

/** Starts a stopwatch that no setting of the wall clock makes slower: of two clocks, whichever says more. */
export const startStopwatch = (): Stopwatch => {
  const [began, upSince] = [performance.now(), upMs()]
  return () => Math.max(performance.now() - began, upMs() - upSince)
}
