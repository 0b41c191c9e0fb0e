import { setTimeout as sleep } from 'node:timers/promises'
import type { Bus } from '@lenserfight/bus'
import type { Logger, StateHolder } from '@lenserfight/runtime'
import { jetstreamManager } from '@nats-io/jetstream'
import { type Finding, reconcile } from './reconcile.ts'

export interface WatchOptions {
  readonly bus: Bus
  readonly holder: StateHolder
  readonly logger: Logger
  /** Milliseconds between two looks. */
  readonly lookMs: number
}

export interface Watch {
  readonly details: () => object
  readonly stop: () => Promise<void>
}

/** protocol.md: the size of a stream is alarmed at this share of its limit. */
const alarmShare = 0.7

/**
 * Looks again and again, and at once when the broker comes back: one that came back empty has its streams again before
 * most clients notice. Ready only while everything is as it should be.
 */
export const startWatch = ({ bus, holder, logger, lookMs }: WatchOptions): Watch => {
  const stopping = new AbortController()
  let wake = new AbortController()
  let last: Finding = { wrong: [], filled: {} }
  const full = new Set<string>()

  const alarm = ({ filled }: Finding): void => {
    for (const [stream, share] of Object.entries(filled)) {
      if (share >= alarmShare && !full.has(stream)) logger.error({ event: 'stream_filling', stream, share }, 'fills up')
      if (share >= alarmShare) full.add(stream)
      else full.delete(stream)
    }
  }
  const tell = (finding: Finding): void => {
    const { wrong } = finding
    if (wrong.length > 0 && wrong.join() !== last.wrong.join()) {
      logger.error({ event: 'settings_wrong', wrong }, 'the broker is not what it must be')
    }
    last = finding
    alarm(finding)
    holder.set(wrong.length > 0 ? 'holding' : 'consuming', wrong.length > 0 ? 'settings' : undefined)
  }
  const look = async (): Promise<void> => {
    if (!bus.isConnected()) return holder.set('connecting', 'disconnected')
    try {
      const manager = await jetstreamManager(bus.nc, { checkAPI: false, timeout: 2000 })
      tell(await reconcile({ manager, logger }))
    } catch (err) {
      logger.warn({ event: 'look_failed', err }, 'the broker did not answer')
      holder.set('connecting', 'no answer')
    }
  }
  const onConnected = (): void => wake.abort()
  bus.events.on('connected', onConnected)
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      wake = new AbortController()
      await look()
      const signal = AbortSignal.any([stopping.signal, wake.signal])
      await sleep(lookMs, undefined, { signal }).catch(() => {})
    }
  }
  const running = run()
  return {
    details: () => ({ wrong: last.wrong, filled: last.filled }),
    stop: async () => {
      stopping.abort()
      bus.events.off('connected', onConnected)
      await running
    },
  }
}
