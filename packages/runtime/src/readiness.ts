import type { StateHolder, WorkerState } from './worker-state.ts'

/** What a worker's state is made of: its consumer's, and whether the database answers. */
export interface Readiness {
  readonly setConsumer: (state: WorkerState, reason?: string) => void
  readonly setDatabase: (isOpen: boolean) => void
}

/**
 * Ready means that a message would be handled now. A consumer knows when it holds messages; whether the database is there
 * while none come, it cannot know (style.md, habit 8).
 */
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
