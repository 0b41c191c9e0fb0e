import { CodedError, limits, type RunnerBeat } from '@lenserfight/schemas'
import { type Stopwatch, startStopwatch } from './stopwatch.ts'
import type { Word } from './verdict.ts'

const permitMs = limits.permitSeconds * 1000
/** A run whose runner says nothing for so long is not renewed any more. */
const heardMs = 30_000
/** A runner that was active within this is reported by heartbeats (RH-2). */
const aliveMs = 60_000
/** A request that is unanswered for so long is taken for lost. */
const lostMs = 5_000

/** The gateway’s word on a run, and how long it holds yet, milliseconds. */
export type Held = Word & { readonly validMs: number }

/**
 * What the policy said of this device’s runs, in memory alone: a daemon that starts again asks anew. No word is given that
 * was asked for over 60 s ago (PE-2).
 */
export interface Permits {
  /**
   * Keeps room for a run that is asked for.
   * @returns gives it back
   * @throws CodedError `run_limit` where as many runs are open, or asked for, as may be
   */
  readonly reserve: () => () => void
  /**
   * Someone runs it here, and was heard just now; one that was not known is from here on.
   * @throws CodedError `run_limit`
   */
  readonly hear: (runId: string, runnerId: string | null) => void
  /** The same of a run, where it is known. */
  readonly touch: (runId: string) => void
  /** A runner asks for a run, or was heard with one. */
  readonly hearRunner: (runnerId: string | null) => void
  /** Takes a word, with a stopwatch that was started before it was asked for; one asked for earlier than that held is none. */
  readonly take: (runId: string, word: Word, since: Stopwatch) => void
  readonly look: (runId: string) => Held | undefined
  /** Those to ask for now: whose time has come, and with them those whose time comes soon. */
  readonly due: (renewMs: number) => string[]
  readonly asked: (runIds: readonly string[], since: Stopwatch) => void
  readonly forget: (runId: string) => void
  /** Forgets what lapsed with nobody heard. @returns how many runs are left */
  readonly sweep: () => number
  /** Runners that were active within a minute, the newest first (RH-2). */
  readonly runners: () => RunnerBeat[]
}

interface Entry {
  runnerId: string | null
  heard: Stopwatch
  word?: { readonly said: Word; readonly since: Stopwatch }
  asked?: Stopwatch
}

/** @param start starts a stopwatch */
export const createPermits = (start: () => Stopwatch = startStopwatch): Permits => {
  const runs = new Map<string, Entry>()
  const runners = new Map<string, Stopwatch>()
  let reserved = 0

  const look = ({ word }: Entry): Held | undefined => {
    const validMs = word === undefined ? 0 : permitMs - word.since()
    return word === undefined || validMs <= 0 ? undefined : { ...word.said, validMs }
  }
  const sweep = (): number => {
    for (const [id, entry] of runs) if (entry.heard() > heardMs && look(entry) === undefined) runs.delete(id)
    for (const [id, heard] of runners) if (heard() > aliveMs) runners.delete(id)
    return runs.size
  }
  const checkRoom = (): void => {
    if (runs.size + reserved >= limits.openRuns && sweep() + reserved >= limits.openRuns)
      throw new CodedError('run_limit')
  }
  const hearRunner = (runnerId: string | null): void => {
    if (runnerId === null) return
    // The newest is last.
    runners.delete(runnerId)
    runners.set(runnerId, start())
    const [oldest] = runners.keys()
    if (runners.size > limits.openRuns && oldest !== undefined) runners.delete(oldest)
  }
  const isHeard = ({ heard }: Entry): boolean => heard() <= heardMs
  const isFinal = (entry: Entry): boolean => {
    const held = look(entry)
    return held !== undefined && ('code' in held || held.verdict === 'deny')
  }
  const isDue = (entry: Entry, renewMs: number): boolean => {
    if (entry.asked === undefined) return true
    const isAnswered = entry.word !== undefined && entry.word.since() <= entry.asked()
    return entry.asked() >= (isAnswered ? renewMs : Math.min(lostMs, renewMs))
  }

  return {
    reserve: () => {
      checkRoom()
      reserved += 1
      let isReserved = true
      return () => {
        if (isReserved) reserved -= 1
        isReserved = false
      }
    },
    hear: (runId, runnerId) => {
      const known = runs.get(runId)
      if (known === undefined) checkRoom()
      hearRunner(runnerId)
      if (known === undefined) runs.set(runId, { runnerId, heard: start() })
      else known.heard = start()
    },
    touch: (runId) => {
      const entry = runs.get(runId)
      if (entry === undefined) return
      hearRunner(entry.runnerId)
      entry.heard = start()
    },
    hearRunner,
    take: (runId, said, since) => {
      const entry = runs.get(runId)
      if (entry === undefined || (entry.word !== undefined && entry.word.since() < since())) return
      entry.word = { said, since }
      entry.asked ??= since
    },
    look: (runId) => {
      const entry = runs.get(runId)
      return entry && look(entry)
    },
    due: (renewMs) => {
      const open = [...runs].filter(([, entry]) => isHeard(entry) && !isFinal(entry))
      if (!open.some(([, entry]) => isDue(entry, renewMs))) return []
      return open.filter(([, entry]) => isDue(entry, renewMs / 2)).map(([id]) => id)
    },
    asked: (runIds, since) => {
      for (const id of runIds) {
        const entry = runs.get(id)
        if (entry !== undefined) entry.asked = since
      }
    },
    forget: (runId) => void runs.delete(runId),
    sweep,
    runners: () => {
      sweep()
      const open = Map.groupBy(runs.values(), ({ runnerId }) => runnerId)
      return [...runners.keys()]
        .reverse()
        .slice(0, limits.runnersPerHeartbeat)
        .map((runner_id) => ({ runner_id, open_runs: open.get(runner_id)?.length ?? 0 }))
    },
  }
}
