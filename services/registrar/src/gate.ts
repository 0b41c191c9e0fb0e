import { describeError, type Logger } from '@lenserfight/runtime'

/** Whether the database answers: asked at intervals, and told by whoever finds out that it does not. */
export interface Gate {
  readonly isOpen: () => boolean
  /** Somebody's call failed: probes at once. One lost race or busy moment does not close it, a failing probe does. */
  readonly suspect: () => void
  readonly stop: () => void
}

export interface GateOptions {
  /** Rejects where the database does not answer. */
  readonly probe: () => Promise<void>
  readonly onChange: (isOpen: boolean) => void
  readonly logger: Logger
  /** Milliseconds between probes while open. */
  readonly everyMs?: number
  /** Milliseconds between probes while closed. */
  readonly retryMs?: number
}

/** Starts open and probes at once. */
export const createGate = (options: GateOptions): Gate => {
  const { probe, onChange, logger, everyMs = 1000, retryMs = 250 } = options
  let open = true
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let probing = false

  const turn = (next: boolean, cause?: unknown): void => {
    if (open === next || stopped) return
    open = next
    if (next) logger.info({ event: 'database_back' }, 'the database answers again')
    else logger.warn({ event: 'database_gone', cause: describeError(cause) }, 'the database does not answer')
    onChange(next)
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
    if (!stopped) timer = setTimeout(check, open ? everyMs : retryMs)
  }
  void check()
  return {
    isOpen: () => open,
    suspect: () => void check(),
    stop: () => {
      stopped = true
      clearTimeout(timer)
    },
  }
}
