import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '@lenserfight/runtime'
import { inboxPrefix } from '@lenserfight/schemas'
import type { Msg } from '@nats-io/transport-node'
import type { Bus } from '../connect-service.ts'
import { type Puller, startPuller } from './puller.ts'

export interface LinkOptions {
  readonly bus: Bus
  readonly stream: string
  readonly consumer: string
  readonly heartbeatMs: number
  readonly lookMs: number
  readonly room: () => number
  readonly least: number
  readonly logger: Logger
  readonly onMessage: (message: Msg) => void
  /** The consumer is there. `same`: it is the one known before, so earlier deliveries may still be acknowledged. */
  readonly onLinked: (same: boolean) => void
  readonly onUnlinked: (reason: string) => void
}

/** The tie to a durable consumer: found again after every loss, and after the broker came back empty. */
export interface Link {
  readonly isLinked: () => boolean
  readonly setPaused: (paused: boolean) => void
  readonly fill: () => void
  readonly stop: () => void
}

/** When the consumer was made, or why it cannot be had. */
const look = async ({ bus, stream, consumer }: LinkOptions): Promise<{ made: string } | { missing: string }> => {
  try {
    const answer = await bus.nc.request(`$JS.API.CONSUMER.INFO.${stream}.${consumer}`, '', { timeout: 2000 })
    const info = answer.json<{ created?: string; error?: { err_code?: number; code?: number } }>()
    if (info.created !== undefined) return { made: info.created }
    return { missing: `api_${info.error?.err_code ?? info.error?.code ?? 'unknown'}` }
  } catch {
    return { missing: 'no_answer' }
  }
}

export const createLink = (options: LinkOptions): Link => {
  const { bus, lookMs, logger, stream, consumer } = options
  const ended = new AbortController()
  let puller: Puller | undefined
  let known: string | undefined
  let linked = false
  let looking = false
  let paused = false

  const open = (): void => {
    puller?.stop()
    puller = paused
      ? undefined
      : startPuller({
          ...options,
          nc: bus.nc,
          inboxPrefix: inboxPrefix(bus.service),
          onLost: (reason) => {
            unlink(reason)
            void find()
          },
        })
  }
  const unlink = (reason: string): void => {
    puller?.stop()
    puller = undefined
    if (!linked) return
    linked = false
    options.onUnlinked(reason)
  }
  /** Looks until the consumer is there; one search at a time. */
  const find = async (): Promise<void> => {
    if (looking) return
    looking = true
    let told = ''
    while (!ended.signal.aborted && !linked && bus.isConnected()) {
      const found = await look(options)
      if (ended.signal.aborted) break
      if ('made' in found && bus.isConnected()) {
        const same = known === undefined || known === found.made
        known = found.made
        linked = true
        if (!same) logger.warn({ event: 'consumer_remade', stream, consumer }, 'the consumer is a new one')
        options.onLinked(same)
        open()
      } else {
        const reason = 'missing' in found ? found.missing : 'disconnected'
        if (reason !== told) logger.warn({ event: 'consumer_missing', stream, consumer, reason }, 'no consumer yet')
        told = reason
        await sleep(lookMs, undefined, { signal: ended.signal }).catch(() => {})
      }
    }
    looking = false
  }
  const onDisconnected = (): void => unlink('disconnected')
  const onConnected = (): void => void find()
  bus.events.on('disconnected', onDisconnected).on('connected', onConnected)
  void find()

  return {
    isLinked: () => linked,
    setPaused: (next) => {
      if (paused === next || ended.signal.aborted) return
      paused = next
      if (linked) open()
    },
    fill: () => puller?.fill(),
    stop: () => {
      ended.abort()
      puller?.stop()
      bus.events.off('disconnected', onDisconnected).off('connected', onConnected)
    },
  }
}
