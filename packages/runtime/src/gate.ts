import type { Logger } from 'pino'
import { describeError } from './redact.ts'

/** Whether what a worker stands on answers: asked at intervals, and told by whoever finds out that it does not. */
export interface Gate {
  readonly isOpen: () => boolean
  /** Somebody's call failed: probes at once. One lost race or busy moment does not close it, a failing probe does. */
  readonly suspect: () => void
  /** Resolves after the first probe, whatever it found: before that nothing is known, and a closed gate says nothing. */
  readonly looked: Promise<void>
  readonly stop: () => void
}

export interface GateOptions {
  /** Rejects where the database does not answer. */
  readonly probe: () => Promise<void>
  /** Told after every probe, also where nothing changed. */
  readonly onProbe: (isOpen: boolean) => void
  readonly logger: Logger
  /** Milliseconds between probes while open; a second where absent. */
  readonly everyMs?: number
  /** Milliseconds between probes while closed; a quarter of a second where absent. */
  readonly retryMs?: number
}

/** Starts closed and probes at once. */
export const createGate = ({ probe, onProbe, logger, everyMs = 1000, retryMs = 250 }: GateOptions): Gate => {
  let open = false
  let toldGone = false
  let stopped = false
  let probing = false
  let timer: NodeJS.Timeout | undefined
  const { promise: looked, resolve: onLooked } = Promise.withResolvers<void>()

  const turn = (next: boolean, cause?: unknown): void => {
    if (stopped) return
    if (next && toldGone) logger.info({ event: 'database_back' }, 'the database answers again')
    if (!next && !toldGone) {
      logger.warn({ event: 'database_gone', cause: describeError(cause) }, 'the database does not answer')
    }
    toldGone = !next
    open = next
    onProbe(next)
  }
  const check = async (): Promise<void> => {
    if (probing || stopped) return
    probing = true
    clearTimeout(timer)
    try {
      await probe()
      turn(true)
    } catch (cause) {
      turn(false, cause)
    }
    probing = false
    onLooked()
    if (!stopped) timer = setTimeout(check, open ? everyMs : retryMs)
  }
  void check()
  return {
    isOpen: () => open,
    suspect: () => void check(),
    looked,
    stop: () => {
      stopped = true
      clearTimeout(timer)
    },
  }
}
