import type { Logger } from 'pino'

/** What a worker is doing. `holding`: it keeps its messages and waits for what it stands on to come back. */
export const workerStates = ['starting', 'connecting', 'consuming', 'holding', 'stopping'] as const
export type WorkerState = (typeof workerStates)[number]

/** The one place where a worker's state is kept. */
export interface StateHolder {
  readonly state: () => WorkerState
  /** When the present state began, milliseconds since 1970. */
  readonly since: () => number
  readonly set: (next: WorkerState, reason?: string) => void
}

/** Starts in `starting`; every change is logged; nothing follows `stopping`. */
export const createState = ({ logger }: { logger: Logger }): StateHolder => {
  let state: WorkerState = 'starting'
  let since = Date.now()
  return {
    state: () => state,
    since: () => since,
    set: (next, reason) => {
      if (next === state || state === 'stopping') return
      logger.info({ event: 'state', from: state, to: next, reason }, 'state changed')
      state = next
      since = Date.now()
    },
  }
}
