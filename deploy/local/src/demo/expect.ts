const deadlineMs = 20_000

/** Fails a step unless it holds. */
export function check(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise)
}

/** Asks until it holds; the wait is bounded. */
export async function until<T>(ask: () => Promise<T>, holds: (value: T) => boolean, otherwise: string): Promise<T> {
  for (const end = Date.now() + deadlineMs; ; ) {
    const value = await ask()
    if (holds(value)) return value
    check(Date.now() < end, otherwise)
    await new Promise((done) => setTimeout(done, 250))
  }
}
