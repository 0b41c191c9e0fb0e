import type { Logger } from '@lenserfight/runtime'
import type { Msg } from '@nats-io/transport-node'
import type { Bus } from './connect-service.ts'

export interface ListenOptions {
  readonly bus: Bus
  readonly subjects: readonly string[]
  /** Replicas of one service share a queue group; each message goes to one of them. */
  readonly queue: string
  /** Messages handled at once; up to as many again wait, and the rest is dropped: askers ask again. */
  readonly maxInFlight: number
  /** What it throws is logged, and the message is over. */
  readonly onMessage: (message: Msg) => Promise<void>
  /** Told of each message that found no place. */
  readonly onDropped?: (message: Msg) => void
  readonly logger: Logger
}

export interface Listening {
  /** Takes no more, and finishes what is in flight. */
  readonly stop: () => Promise<void>
  readonly stats: () => { inFlight: number; waiting: number; dropped: number; handled: number }
}

/** Hears plain subjects in a queue group, with a bound on what is under way. Messages are never answered by their reply. */
export const listen = (options: ListenOptions): Listening => {
  const { bus, queue, maxInFlight, onMessage, onDropped, logger } = options
  const waiting: Msg[] = []
  const active = new Set<Promise<void>>()
  let dropped = 0
  let handled = 0

  const handle = async (message: Msg): Promise<void> => {
    try {
      await onMessage(message)
    } catch (err) {
      logger.error({ event: 'message_failed', err }, 'a message failed')
    }
  }
  const begin = (message: Msg): void => {
    const running = handle(message).finally(() => {
      active.delete(running)
      handled += 1
      const next = waiting.shift()
      if (next !== undefined) begin(next)
    })
    active.add(running)
  }
  const receive = (error: Error | null, message: Msg): void => {
    if (error) logger.error({ event: 'subscription_refused', err: error }, 'the broker refused a subscription')
    else if (active.size < maxInFlight) begin(message)
    else if (waiting.length < maxInFlight) waiting.push(message)
    else {
      dropped += 1
      onDropped?.(message)
    }
  }
  const subscriptions = options.subjects.map((subject) => bus.nc.subscribe(subject, { queue, callback: receive }))

  const stop = async (): Promise<void> => {
    if (bus.isConnected()) await Promise.allSettled(subscriptions.map((subscription) => subscription.drain()))
    while (active.size > 0) await Promise.all(active)
  }
  const stats = () => ({ inFlight: active.size, waiting: waiting.length, dropped, handled })
  return { stop, stats }
}
