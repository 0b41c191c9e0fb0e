import type { Logger } from '@lenserfight/runtime'
import { CodedError, type KindName, Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Operation } from '../outbox/operations.ts'
import { type RunBook, readPermitted } from './book.ts'
import type { Runs } from './runs.ts'
import { type Stopwatch, startStopwatch } from './stopwatch.ts'
import { readWord, withdrawnWord } from './verdict.ts'

/** Between looks for runs that nobody waits for. */
const lookMs = 500

/**
 * Runs that await a person, or did, and have not begun; and who waits for them here. One that nobody waits for any more is taken
 * back, so that it holds no place and no person approves it in vain; one that began never is.
 */
export interface Awaited {
  /** Somebody waits for the result of this request for a run. @returns they do no more */
  readonly expect: (opId: string) => () => void
  /** A request for a run came to an end; the permit of one that nobody waits for is taken back. */
  readonly ended: (operation: Operation) => void
  /** Somebody waits for a person’s answer to this run. @returns they do no more */
  readonly hold: (runId: string) => () => void
  /** It begins, or was refused. */
  readonly settle: (runId: string) => void
  /**
   * Takes a run back. On return that is on the disk, and sent until it has a result.
   * @throws CodedError `unknown_run`, `run_withdrawn`, `approval_not_pending` of one that began or awaited nobody, `outbox_full`,
   * `state_unwritable`
   */
  readonly withdraw: (runId: string) => Operation
  /** Begins to look for those that nobody waits for. What awaited a person when the last daemon ended has as long as any other. */
  readonly start: () => void
  readonly close: () => void
}

export interface AwaitedOptions {
  readonly book: RunBook
  readonly runs: Pick<Runs, 'take' | 'forget'>
  readonly enqueue: (kind: KindName, body: Readonly<Record<string, unknown>>) => Operation
  readonly clockOffsetMs: () => number | undefined
  /** How long nobody may wait for a run before it is taken back, milliseconds. */
  readonly leftMs: number
  readonly logger: Logger
}

interface Entry {
  held: number
  left: Stopwatch
}

export const createAwaited = (options: AwaitedOptions): Awaited => {
  const { book, runs, enqueue, clockOffsetMs, leftMs, logger } = options
  const expected = new Set<string>()
  const entries = new Map<string, Entry>()
  let timer: NodeJS.Timeout | undefined
  let isStarted = false

  const watch = (): void => {
    if (isStarted) timer ??= setInterval(look, Math.min(lookMs, leftMs))
  }
  const unwatch = (): void => {
    clearInterval(timer)
    timer = undefined
  }
  const entryOf = (runId: string): Entry => {
    const entry = entries.get(runId) ?? { held: 0, left: startStopwatch() }
    entries.set(runId, entry)
    watch()
    return entry
  }
  const withdraw: Awaited['withdraw'] = (runId) => {
    const operation = book.withdraw(runId, () => enqueue('run_withdraw', { run_id: runId }))
    logger.info({ event: 'run_withdrawn', run_id: runId }, 'a run that has not begun is taken back')
    const isHeld = (entries.get(runId)?.held ?? 0) > 0
    entries.delete(runId)
    // Who still waits hears of it.
    if (isHeld) runs.take(runId, withdrawnWord, startStopwatch())
    else runs.forget(runId)
    return operation
  }
  /** One that cannot be kept now is tried again. */
  const withdrawLeft = (runId: string): void => {
    try {
      withdraw(runId)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      const isWaiting = error.code === 'outbox_full' || error.code === 'state_unwritable'
      if (!isWaiting) entries.delete(runId)
      logger.warn({ event: 'run_not_withdrawn', run_id: runId, code: error.code }, 'a run could not be taken back')
    }
  }
  const look = (): void => {
    for (const [runId, { held, left }] of entries) if (held === 0 && left() >= leftMs) withdrawLeft(runId)
    if (entries.size === 0) unwatch()
  }

  return {
    expect: (opId) => {
      expected.add(opId)
      return () => void expected.delete(opId)
    },
    ended: ({ opId, outcome }) => {
      const result = outcome?.result
      if (expected.has(opId) || result === undefined || !Check(Uuid, result.run_id)) return
      const word = readWord(result)
      if (word === undefined || 'code' in word || word.verdict === 'deny' || word.verdict === 'pause') return
      book.add(readPermitted(result), clockOffsetMs() ?? 0, true)
      entryOf(result.run_id)
      withdrawLeft(result.run_id)
    },
    hold: (runId) => {
      if (!book.find(runId)?.isAwaiting) return () => {}
      const entry = entryOf(runId)
      entry.held += 1
      return () => {
        entry.held -= 1
        entry.left = startStopwatch()
      }
    },
    settle: (runId) => {
      entries.delete(runId)
      if (book.find(runId)?.isAwaiting) book.settle(runId)
    },
    withdraw,
    start: () => {
      isStarted = true
      for (const runId of book.awaiting()) entryOf(runId)
      if (entries.size > 0) watch()
    },
    close: () => {
      isStarted = false
      unwatch()
    },
  }
}
