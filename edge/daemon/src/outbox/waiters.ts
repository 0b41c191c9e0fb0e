/** Those who wait for an operation's end. */
export interface Waiters {
  /** Resolves when it is woken, when time is up or when the signal aborts, whichever is first. */
  readonly wait: (opId: string, timeoutMs: number, signal?: AbortSignal) => Promise<void>
  readonly wake: (opId: string) => void
  readonly wakeAll: () => void
}

export const createWaiters = (): Waiters => {
  const waiting = new Map<string, Set<() => void>>()
  const wake = (opId: string): void => {
    for (const resolve of waiting.get(opId) ?? []) resolve()
  }
  return {
    wait: (opId, timeoutMs, signal) =>
      new Promise((resolve) => {
        const mine = waiting.get(opId) ?? new Set()
        waiting.set(opId, mine)
        const done = (): void => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', done)
          mine.delete(done)
          if (mine.size === 0) waiting.delete(opId)
          resolve()
        }
        const timer = setTimeout(done, timeoutMs)
        mine.add(done)
        signal?.addEventListener('abort', done)
      }),
    wake,
    wakeAll: () => {
      for (const opId of [...waiting.keys()]) wake(opId)
    },
  }
}
