import type { StateHolder, WorkerState } from '@lenserfight/runtime'

/** What the registrar's state is made of: its consumer's, and whether the database answers those who ask. */
export interface Readiness {
  readonly setConsumer: (state: WorkerState, reason?: string) => void
  readonly setDatabase: (isOpen: boolean) => void
}

/** Ready means both doors work: a consumer that consumes says nothing of requests while the database is gone. */
export const createReadiness = (holder: StateHolder): Readiness => {
  let consumer: WorkerState = 'connecting'
  let isOpen = true
  const tell = (reason?: string): void =>
    isOpen || consumer !== 'consuming' ? holder.set(consumer, reason) : holder.set('holding', 'database')
  return {
    setConsumer: (next, reason) => {
      consumer = next
      tell(reason)
    },
    setDatabase: (next) => {
      isOpen = next
      tell()
    },
  }
}
