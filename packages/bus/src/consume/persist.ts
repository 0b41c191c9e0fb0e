import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError, type Logger } from '@lenserfight/runtime'

/** The worker stops while work waits for infrastructure: the work is given up, unsettled. */
export class StoppedError extends Error {
  override readonly name = 'StoppedError'
}

export interface Holding {
  /** How many pieces of work wait now. */
  readonly waiting: () => number
  /** How often any had to. */
  readonly holds: () => number
  readonly persist: <T>(work: () => Promise<T>) => Promise<T>
}

interface HoldingOptions {
  readonly floorMs: number
  readonly ceilingMs: number
  readonly signal: AbortSignal
  readonly logger: Logger
  readonly onChange: () => void
}

/** Runs work until infrastructure bears it: waits longer each time, with jitter, and says when it waits and when no more. */
export const createHolding = ({ floorMs, ceilingMs, signal, logger, onChange }: HoldingOptions): Holding => {
  let waiting = 0
  let holds = 0

  const retry = async <T>(work: () => Promise<T>): Promise<T> => {
    for (let pause = floorMs; ; pause = Math.min(pause * 2, ceilingMs)) {
      await sleep(pause / 2 + (Math.random() * pause) / 2, undefined, { signal }).catch(() => {})
      if (signal.aborted) throw new StoppedError('stopped while holding')
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof InfrastructureError)) throw error
      }
    }
  }
  const persist = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      logger.warn({ event: 'holding', err: error }, 'holding messages until infrastructure is back')
    }
    waiting += 1
    holds += 1
    onChange()
    try {
      return await retry(work)
    } finally {
      waiting -= 1
      onChange()
    }
  }
  return { waiting: () => waiting, holds: () => holds, persist }
}
