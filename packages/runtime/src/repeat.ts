import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError } from './errors.ts'
import type { Logger } from './logger.ts'

export interface RepetitionOptions {
  /** Milliseconds from the end of one round to the next, give or take a quarter. */
  readonly everyMs: number
  /** Until told to stop; what it throws is logged once for each row of failures. */
  readonly round: (stopping: AbortSignal) => Promise<void>
  /** The `event` of a failure's log line, and its sentence. */
  readonly failure: { readonly event: string; readonly message: string }
  readonly logger: Logger
}

export interface Repetition {
  /** Ends after what is under way. */
  readonly stop: () => Promise<void>
}

/** After how long at most a round that failed is tried again, unless rounds are further apart anyway. */
const backoffCeilingMs = 30_000

/** Does a thing again and again. Rounds that fail are tried further, each after twice as long. */
export const startRepeating = ({ everyMs, round, failure, logger }: RepetitionOptions): Repetition => {
  const stopping = new AbortController()
  const { signal } = stopping
  let failures = 0

  const tell = (error: unknown): void => {
    failures += 1
    if (failures > 1) return
    const level = error instanceof InfrastructureError ? 'warn' : 'error'
    logger[level]({ event: failure.event, err: error }, failure.message)
  }
  const pauseMs = (): number => {
    const base = Math.min(everyMs * 2 ** Math.min(failures, 16), Math.max(everyMs, backoffCeilingMs))
    // Jitter, so that replicas do not ask at the same moment.
    return base * (0.75 + Math.random() / 2)
  }
  const loop = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await round(signal)
        failures = 0
      } catch (error) {
        tell(error)
      }
      await sleep(pauseMs(), undefined, { signal }).catch(() => {})
    }
  }
  const running = loop()
  const stop = async (): Promise<void> => {
    stopping.abort()
    await running
  }
  return { stop }
}
