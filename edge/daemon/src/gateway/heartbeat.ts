import type { Logger } from '@lenserfight/runtime'
import { CodedError, mayConclude, type ReasonCode, type ReceiptItem, type RunnerBeat } from '@lenserfight/schemas'
import type { GatewayClient } from './client.ts'

const remembered = 16
/** A runner that was reported within this need not be reported at once, milliseconds. */
const reportedMs = 5_000

/** What a heartbeat says (DH-2). Neither member is used for authorization. */
export interface HeartbeatBody {
  readonly daemon_version: string
  readonly gateway_status: string
  /** RH-2 */
  readonly runners?: readonly RunnerBeat[]
}

/** Sends heartbeats (DH-1). They are no operations: a lost one is followed by the next, and the newest wins. */
export interface Heartbeat {
  /** Beats now and from then on. */
  readonly start: (client: Pick<GatewayClient, 'sign' | 'publish'>) => void
  readonly stop: () => void
  /** Beats at once, where that tells of a runner that no beat of the last seconds told of (RH-4). */
  readonly beatFor: (runnerId: string) => void
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /** When a heartbeat was last accepted, milliseconds since 1970. */
  readonly acceptedAt: () => number | null
}

export interface HeartbeatOptions {
  readonly everyMs: number
  readonly body: () => HeartbeatBody
  readonly logger: Logger
  readonly onRefused: (code: ReasonCode) => void
  /** Told why none could be signed: the disk does not take its number. */
  readonly onUnable?: (code: ReasonCode) => void
  /** Told what an accepted one resulted in. */
  readonly onResult?: (result: Readonly<Record<string, unknown>>) => void
  readonly now?: () => number
}

export const createHeartbeat = (options: HeartbeatOptions): Heartbeat => {
  const { everyMs, body, logger, onRefused, onUnable = () => {}, onResult = () => {}, now = Date.now } = options
  const sent = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let acceptedAt: number | null = null
  let by: Pick<GatewayClient, 'sign' | 'publish'> | undefined
  let reported: { readonly runners: ReadonlySet<string>; readonly at: number } | undefined

  const signOne = (client: Pick<GatewayClient, 'sign'>, said: HeartbeatBody) => {
    try {
      return client.sign('heartbeat', said)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      // A full disk counts nothing: the next heartbeat tries again.
      logger.warn({ event: 'heartbeat_unsent', code: error.code }, 'a heartbeat could not be signed')
      onUnable(error.code)
      return undefined
    }
  }
  const beat = (client: Pick<GatewayClient, 'sign' | 'publish'>): void => {
    const said = body()
    const signed = signOne(client, said)
    if (signed === undefined) return
    reported = { runners: new Set(said.runners?.map(({ runner_id }) => runner_id)), at: performance.now() }
    const { digest, bytes } = signed
    sent.add(digest)
    const [oldest] = sent
    if (sent.size > remembered && oldest !== undefined) sent.delete(oldest)
    client.publish('heartbeat', bytes)
  }
  const stop = (): void => {
    clearInterval(timer)
    by = undefined
  }

  return {
    start: (client) => {
      stop()
      by = client
      beat(client)
      timer = setInterval(beat, everyMs, client)
    },
    stop,
    beatFor: (runnerId) => {
      const isReported = reported?.runners.has(runnerId) && performance.now() - reported.at < reportedMs
      if (by !== undefined && !isReported) beat(by)
    },
    receive: (items, service) => {
      for (const { digest, ok, code = 'internal_error', result = {} } of items) {
        if (!mayConclude(service, 'heartbeat', ok) || !sent.delete(digest)) continue
        if (ok) {
          acceptedAt = now()
          onResult(result)
          continue
        }
        logger.warn({ event: 'heartbeat_refused', code }, 'a heartbeat was refused')
        onRefused(code)
      }
    },
    acceptedAt: () => acceptedAt,
  }
}
