import type { Logger, StateHolder } from '@lenserfight/runtime'

/** Whether the database answers: asked at intervals, and at once when a judgement failed for it. */
export interface Gate {
  readonly isOpen: () => boolean
  readonly suspect: () => void
  readonly stop: () => void
}

export interface GateOptions {
  readonly probe: () => Promise<void>
  readonly isConnected: () => boolean
  readonly holder: StateHolder
  readonly logger: Logger
}

const openMs = 1000
const closedMs = 250

/** Keeps the worker's state: `consuming` while broker and database are there, `holding` without the database. */
export const createGate = ({ probe, isConnected, holder, logger }: GateOptions): Gate => {
  let open = false
  let stopped = false
  let asking = false
  let timer: NodeJS.Timeout | undefined

  const turn = (next: boolean, err?: unknown): void => {
    if (next !== open) {
      if (next) logger.info({ event: 'database_there' }, 'the database answers')
      else logger.warn({ event: 'database_gone', err }, 'the database does not answer: nobody is admitted')
    }
    open = next
    if (isConnected()) holder.set(open ? 'consuming' : 'holding', open ? undefined : 'database')
    else holder.set('connecting', 'broker')
  }
  const ask = async (): Promise<void> => {
    if (asking || stopped) return
    asking = true
    clearTimeout(timer)
    try {
      await probe()
      turn(true)
    } catch (error) {
      turn(false, error)
    }
    asking = false
    if (!stopped) timer = setTimeout(ask, open ? openMs : closedMs)
  }
  void ask()
  return {
    isOpen: () => open,
    suspect: () => void ask(),
    stop: () => {
      stopped = true
      clearTimeout(timer)
    },
  }
}
