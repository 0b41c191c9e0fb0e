import type { Logger } from '@lenserfight/runtime'
import { CodedError, limits, mayConclude, type ReasonCode, type ReceiptItem } from '@lenserfight/schemas'
import { type Stopwatch, startStopwatch } from '../runs/stopwatch.ts'
import type { GatewayClient } from './client.ts'

const remembered = 64

/** Has the policy judge runs anew (PE-2). Requests are no operations: a lost one is followed by the next. */
export interface Renewals {
  readonly attach: (client: Pick<GatewayClient, 'sign' | 'publish'>) => void
  readonly detach: () => void
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /**
   * Asks for these runs, as far as anything can be sent.
   * @returns a stopwatch from before the sending, or undefined where nothing was sent
   */
  readonly ask: (runIds: readonly string[]) => Stopwatch | undefined
}

export interface RenewalsOptions {
  readonly logger: Logger
  /** Told what the gateway says of each run, and a stopwatch from before it was asked. */
  readonly onWord: (said: Readonly<Record<string, unknown>>, since: Stopwatch) => void
  readonly onRefused: (code: ReasonCode) => void
  /** Told why none could be signed: the disk does not take its number. */
  readonly onUnable?: (code: ReasonCode) => void
  readonly start?: () => Stopwatch
}

const runsOf = ({ result }: ReceiptItem): Record<string, unknown>[] =>
  Array.isArray(result?.runs) ? result.runs.filter((each) => typeof each === 'object' && each !== null) : []

export const createRenewals = (options: RenewalsOptions): Renewals => {
  const { logger, onWord, onRefused, onUnable = () => {}, start = startStopwatch } = options
  const sent = new Map<string, Stopwatch>()
  let client: Pick<GatewayClient, 'sign' | 'publish'> | undefined

  const askSome = (by: Pick<GatewayClient, 'sign' | 'publish'>, runs: readonly string[], since: Stopwatch): void => {
    const { digest, bytes } = by.sign('run_renew', { runs })
    sent.set(digest, since)
    const [oldest] = sent.keys()
    if (sent.size > remembered && oldest !== undefined) sent.delete(oldest)
    by.publish('run_renew', bytes)
  }

  return {
    attach: (next) => {
      client = next
    },
    detach: () => {
      client = undefined
    },
    ask: (runIds) => {
      if (client === undefined) return undefined
      const since = start()
      try {
        for (let from = 0; from < runIds.length; from += limits.renewalsPerRequest)
          askSome(client, runIds.slice(from, from + limits.renewalsPerRequest), since)
      } catch (error) {
        if (!(error instanceof CodedError)) throw error
        // A full disk counts nothing: the runs lapse unless it has room again in time.
        logger.warn({ event: 'renewal_unsent', code: error.code }, 'runs could not be renewed')
        onUnable(error.code)
        return undefined
      }
      return since
    },
    receive: (items, service) => {
      for (const item of items) {
        const since = sent.get(item.digest)
        if (since === undefined || !mayConclude(service, 'run_renew', item.ok)) continue
        sent.delete(item.digest)
        if (item.ok) {
          for (const said of runsOf(item)) onWord(said, since)
          continue
        }
        const { code = 'internal_error' } = item
        logger.warn({ event: 'renewal_refused', code }, 'a renewal was refused')
        onRefused(code)
      }
    },
  }
}
