import type { Logger } from '@lenserfight/runtime'
import { CodedError, type ReasonCode, type ReceiptItem, type RunnerBeat } from '@lenserfight/schemas'
import type { GatewayClient } from '../gateway/client.ts'
import { createRenewals } from '../gateway/renewals.ts'
import { createWaiters } from '../outbox/waiters.ts'
import { createPermits, type Held } from './permits.ts'
import type { Stopwatch } from './stopwatch.ts'
import { readWord, type Verdict, type Word } from './verdict.ts'

/** Between looks at what is to be renewed. */
const tickMs = 500
/** Between two questions about a run that somebody waits for. */
const askAgainMs = { first: 2_000, most: 5_000 }

/** The policy’s word on a run that may be acted upon, and how long yet, milliseconds. */
export type Live = Verdict & { readonly validMs: number }

/** The runs of this device that are under way, each with the policy’s newest word on it. */
export interface Runs {
  /** From here on runs are renewed. */
  readonly attach: (client: Pick<GatewayClient, 'sign' | 'publish'>) => void
  readonly detach: () => void
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /** @throws CodedError `run_limit` */
  readonly reserve: () => () => void
  /** @throws CodedError `run_limit` */
  readonly hear: (runId: string, runnerId: string | null) => void
  readonly hearRunner: (runnerId: string | null) => void
  readonly take: (runId: string, word: Word, since: Stopwatch) => void
  /**
   * What holds of a run, without asking.
   * @throws CodedError the code with which the gateway would not judge it
   */
  readonly look: (runId: string) => Live | undefined
  /**
   * What holds, asked for where nothing does; undefined where no answer came in time.
   * @throws CodedError the code with which the gateway would not judge it
   */
  readonly ask: (runId: string, timeoutMs: number, signal?: AbortSignal) => Promise<Live | undefined>
  /** The same once it is another verdict than `require_approval`, or as it stands when time is up or the signal aborts. */
  readonly awaitApproval: (runId: string, timeoutMs: number, signal?: AbortSignal) => Promise<Live | undefined>
  readonly forget: (runId: string) => void
  /** RH-2 */
  readonly runners: () => RunnerBeat[]
  readonly close: () => void
}

export interface RunsOptions {
  /** How often a run is renewed, milliseconds. */
  readonly renewMs: number
  readonly logger: Logger
  readonly onRefused: (code: ReasonCode) => void
  readonly onUnable?: (code: ReasonCode) => void
  /** Starts a stopwatch. */
  readonly start?: () => Stopwatch
}

const liveOf = (held: Held | undefined): Live | undefined => {
  if (held !== undefined && 'code' in held) throw new CodedError(held.code)
  return held
}

export const createRuns = ({ renewMs, logger, onRefused, onUnable, start }: RunsOptions): Runs => {
  const permits = createPermits(start)
  const waiters = createWaiters()
  let isAttached = false
  let timer: NodeJS.Timeout | undefined

  const take = (runId: string, word: Word, since: Stopwatch): void => {
    permits.take(runId, word, since)
    waiters.wake(runId)
  }
  const renewals = createRenewals({
    ...{ logger, onRefused },
    ...(onUnable === undefined ? {} : { onUnable }),
    ...(start === undefined ? {} : { start }),
    onWord: (said, since) => {
      const word = readWord(said)
      if (word !== undefined) take(String(said.run_id), word, since)
    },
  })
  const askFor = (runIds: readonly string[]): void => {
    const since = runIds.length === 0 ? undefined : renewals.ask(runIds)
    if (since !== undefined) permits.asked(runIds, since)
  }
  const tick = (): void => {
    if (isAttached) askFor(permits.due(renewMs))
    if (permits.sweep() > 0) return
    clearInterval(timer)
    timer = undefined
  }
  const watch = (): void => {
    timer ??= setInterval(tick, Math.min(tickMs, renewMs / 2))
  }
  const look = (runId: string): Live | undefined => liveOf(permits.look(runId))

  /** Asks again and again, until there is a word of which `isEnough` holds. */
  const askUntil = async (
    runId: string,
    isEnough: (live: Live) => boolean,
    { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal | undefined },
  ): Promise<Live | undefined> => {
    const end = performance.now() + timeoutMs
    for (let pauseMs = askAgainMs.first; ; pauseMs = Math.min(askAgainMs.most, pauseMs * 1.25)) {
      const live = look(runId)
      if (live !== undefined && isEnough(live)) return live
      if (signal?.aborted || performance.now() >= end) return live
      // Who waits is there.
      permits.touch(runId)
      askFor([runId])
      const pauseEnd = Math.min(end, performance.now() + pauseMs)
      while (performance.now() < pauseEnd && !signal?.aborted) {
        await waiters.wait(runId, Math.max(1, pauseEnd - performance.now()), signal)
        const heard = look(runId)
        if (heard !== undefined && isEnough(heard)) return heard
      }
    }
  }

  return {
    attach: (client) => {
      isAttached = true
      renewals.attach(client)
      tick()
    },
    detach: () => {
      isAttached = false
      renewals.detach()
    },
    receive: renewals.receive,
    reserve: permits.reserve,
    hear: (runId, runnerId) => {
      permits.hear(runId, runnerId)
      watch()
    },
    hearRunner: permits.hearRunner,
    take,
    look,
    ask: (runId, timeoutMs, signal) => askUntil(runId, () => true, { timeoutMs, signal }),
    awaitApproval: (runId, timeoutMs, signal) =>
      askUntil(runId, ({ verdict }) => verdict !== 'require_approval', { timeoutMs, signal }),
    forget: permits.forget,
    runners: permits.runners,
    close: () => {
      clearInterval(timer)
      waiters.wakeAll()
    },
  }
}
