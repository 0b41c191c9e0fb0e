/** Work of many callers in one go: what comes while a batch is under way makes up the next. */
export interface BatcherOptions<In, Out> {
  /** Answers for each, in order; what it throws is thrown to all of the batch. */
  readonly work: (batch: readonly In[]) => Promise<readonly Out[]>
  readonly maxBatch: number
  /** Batches under way at once. */
  readonly lanes: number
}

interface Waiting<In, Out> {
  readonly input: In
  readonly resolve: (output: Out) => void
  readonly reject: (error: unknown) => void
}

export const createBatcher = <In, Out>({ work, maxBatch, lanes }: BatcherOptions<In, Out>) => {
  let waiting: Waiting<In, Out>[] = []
  let busy = 0

  const run = async (batch: readonly Waiting<In, Out>[]): Promise<void> => {
    try {
      const outputs = await work(batch.map(({ input }) => input))
      for (const [index, { resolve }] of batch.entries()) resolve(outputs[index] as Out)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
    busy -= 1
    begin()
  }
  const begin = (): void => {
    while (busy < lanes && waiting.length > 0) {
      const batch = waiting.slice(0, maxBatch)
      waiting = waiting.slice(maxBatch)
      busy += 1
      void run(batch)
    }
  }
  return (input: In): Promise<Out> => {
    const { promise, resolve, reject } = Promise.withResolvers<Out>()
    waiting.push({ input, resolve, reject })
    // The others of this turn of the loop come along.
    if (waiting.length === 1) queueMicrotask(begin)
    return promise
  }
}
