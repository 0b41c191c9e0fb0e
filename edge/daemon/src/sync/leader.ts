import type { Logger } from '@lenserfight/runtime'
import { CodedError, limits } from '@lenserfight/schemas'
import { type GatewayClient, resultOf } from '../gateway/client.ts'
import { jittered } from './jitter.ts'

const leaseMs = limits.leaderSeconds * 1000
const askDeadlineMs = 10_000
const retryMs = 5_000

/** The lease under which this machine alone flushes the classes that need coordination. Another thing than the execution lease. */
export interface Leader {
  readonly attach: (client: Pick<GatewayClient, 'ask'>) => void
  readonly detach: () => void
  /** Its number, while it is held. */
  readonly fence: () => number | undefined
  /** Asks for it where it is wanted, and gives it back where it no longer is. */
  readonly look: () => void
  readonly status: () => { readonly held: boolean; readonly waiting: boolean }
}

export interface LeaderOptions {
  /** Whether there is something to flush under it. */
  readonly isWanted: () => boolean
  /** Told when it is held. */
  readonly onHeld: () => void
  readonly logger: Logger
  readonly random?: () => number
  /** On a clock that nobody sets, milliseconds. */
  readonly uptime?: () => number
}

export const createLeader = (options: LeaderOptions): Leader => {
  const { isWanted, onHeld, logger, random = Math.random, uptime = () => performance.now() } = options
  let client: Pick<GatewayClient, 'ask'> | undefined
  let held: { readonly fence: number; readonly until: number } | undefined
  let isAsking = false
  let isWaiting = false
  let timer: NodeJS.Timeout | undefined

  const fence = (): number | undefined => (held !== undefined && uptime() < held.until ? held.fence : undefined)
  const lookIn = (ms: number): void => {
    clearTimeout(timer)
    if (client !== undefined) timer = setTimeout(look, ms)
  }

  const take = (result: Readonly<Record<string, unknown>>, since: number): void => {
    const { granted, fence: number, retry_after } = result
    if (granted === true && Number.isSafeInteger(number)) {
      held = { fence: number as number, until: since + leaseMs }
      isWaiting = false
      lookIn(leaseMs / 3)
      onHeld()
      return
    }
    held = undefined
    isWaiting = true
    const wait = typeof retry_after === 'number' && retry_after > 0 ? retry_after * 1000 : retryMs
    lookIn(jittered(Math.min(wait, leaseMs), random()))
  }
  const ask = async (by: Pick<GatewayClient, 'ask'>, seconds: number): Promise<void> => {
    // Counted from before it was asked for: the gateway counts from later.
    const since = uptime()
    const body = { lease_kind: 'sync_flush', seconds }
    const answer = await by.ask('leader', body, { deadlineMs: askDeadlineMs })
    if (by !== client) return
    const result = resultOf(answer)
    if (seconds > 0) take(result, since)
  }
  const askNow = async (by: Pick<GatewayClient, 'ask'>, seconds: number): Promise<void> => {
    isAsking = true
    try {
      await ask(by, seconds)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      logger.warn({ event: 'leader_unanswered', code: error.code }, 'the leader lease could not be asked for')
      if (seconds > 0) {
        isWaiting = true
        lookIn(jittered(retryMs, random()))
      }
    } finally {
      isAsking = false
    }
  }
  const look = (): void => {
    if (client === undefined || isAsking) return
    if (!isWanted()) {
      clearTimeout(timer)
      const isHeld = fence() !== undefined
      held = undefined
      isWaiting = false
      if (isHeld) void askNow(client, 0)
      return
    }
    const left = held === undefined ? 0 : held.until - uptime()
    if (left <= (leaseMs * 2) / 3) void askNow(client, limits.leaderSeconds)
  }

  return {
    attach: (next) => {
      client = next
      look()
    },
    detach: () => {
      client = undefined
      clearTimeout(timer)
    },
    fence,
    look: () => {
      // Who waits for another's lease to end looks again by itself.
      if (!isWaiting || !isWanted()) look()
    },
    status: () => ({ held: fence() !== undefined, waiting: isWaiting }),
  }
}
