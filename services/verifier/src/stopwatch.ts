/** Where a verifier's time goes: the stages of a batch. `form`, `signer`, `pack`, `arrange` are this thread's own work, the others waiting. */
export const stages = ['form', 'signer', 'pack', 'signature', 'arrange', 'claim', 'publish', 'tell'] as const
export type Stage = (typeof stages)[number]

/** Sums of milliseconds by stage. */
export type StageTimes = Readonly<Record<Stage, number>>

/** Adds up what each stage took; batches overlap, so the sum of all is more than the time that passed. */
export const createStopwatch = (now: () => number = () => performance.now()) => {
  const times: Record<Stage, number> = {
    form: 0,
    signer: 0,
    pack: 0,
    signature: 0,
    arrange: 0,
    claim: 0,
    publish: 0,
    tell: 0,
  }
  const timed = <T>(stage: Stage, work: () => T): T => {
    const start = now()
    const result = work()
    if (!(result instanceof Promise)) {
      times[stage] += now() - start
      return result
    }
    return result.finally(() => {
      times[stage] += now() - start
    }) as T
  }
  return { timed, times: (): StageTimes => ({ ...times }) }
}
export type Stopwatch = ReturnType<typeof createStopwatch>
