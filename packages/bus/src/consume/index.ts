import type { WorkerState } from '@lenserfight/runtime'
import { readDelivery } from './ack-subject.ts'
import { createLedger, type Held } from './ledger.ts'
import { createLink } from './link.ts'
import { createHolding, StoppedError } from './persist.ts'
import { type BatchContext, processBatch } from './process-batch.ts'
import type { ConsumeOptions, ConsumeTiming, Consumption } from './types.ts'

const defaults: ConsumeTiming = {
  workingMs: 1500,
  retryFloorMs: 100,
  retryCeilingMs: 5000,
  lookMs: 500,
  heartbeatMs: 2000,
}
/** Bytes of messages held at which no more are asked for. */
const heldBytes = 24 * 1024 * 1024

/**
 * Consumes a durable consumer in batches, for ever: through failures of what the handler stands on (held, tried again),
 * poisonous messages (bisected, put aside), a lost broker, and one that came back empty. The only code that
 * acknowledges; a message is acknowledged when all its items are done (style.md, habits 2, 7 and 8).
 */
export const consume = <Item>(options: ConsumeOptions<Item>): Consumption => {
  const { bus, stream, consumer, logger, concurrency = 1, batch: shape } = options
  const timing = { ...defaults, ...options.timing }
  // Twice what hands are free for: asking for more costs a round trip, during which nobody should stand idle.
  const window = 2 * shape.maxMessages * (concurrency + 1)
  const stopping = new AbortController()
  const ledger = createLedger(bus.nc)
  const active = new Set<Promise<void>>()
  let waitingBatch: Held[] = []
  let waitTimer: NodeJS.Timeout | undefined
  const counts = { batches: 0, settled: 0, dead: 0 }
  let told: WorkerState = 'starting'

  const tellState = (reason?: string): void => {
    const fitting: WorkerState = link.isLinked() ? 'consuming' : 'connecting'
    const state: WorkerState = stopping.signal.aborted ? 'stopping' : holding.waiting() > 0 ? 'holding' : fitting
    if (state === told) return
    told = state
    options.onState?.(state, reason)
  }
  const holding = createHolding({
    floorMs: timing.retryFloorMs,
    ceilingMs: timing.retryCeilingMs,
    signal: stopping.signal,
    logger,
    onChange: () => {
      link.setPaused(holding.waiting() > 0)
      tellState('infrastructure')
      pump()
    },
  })
  const context: BatchContext<Item> = {
    options,
    ledger: {
      ...ledger,
      settle: (held, how) => {
        counts.settled += 1
        ledger.settle(held, how)
      },
    },
    persist: holding.persist,
    signal: stopping.signal,
    onDead: () => {
      counts.dead += 1
    },
  }

  const run = async (batch: Held[]): Promise<void> => {
    try {
      await processBatch(context, batch)
    } catch (error) {
      if (error instanceof StoppedError) return ledger.giveBack(batch)
      // Nothing in there throws anything else but by mistake. Were they held on to, nobody would ever get them again.
      ledger.forget(batch)
      logger.error({ event: 'batch_failed', err: error }, 'a batch failed outside its handler')
    }
  }
  const begin = (batch: Held[]): void => {
    counts.batches += 1
    const running = run(batch).finally(() => {
      active.delete(running)
      pump()
      link.fill()
    })
    active.add(running)
  }
  /** Starts batches as far as there are messages for them and hands free. */
  const pump = (): void => {
    while (waitingBatch.length > 0 && active.size < concurrency && holding.waiting() === 0) {
      if (stopping.signal.aborted) return
      const first = waitingBatch[0] as Held
      const patience = first.since + shape.maxWaitMs - Date.now()
      if (waitingBatch.length < shape.maxMessages && patience > 0) {
        waitTimer ??= setTimeout(() => {
          waitTimer = undefined
          pump()
        }, patience)
        return
      }
      begin(waitingBatch.slice(0, shape.maxMessages))
      waitingBatch = waitingBatch.slice(shape.maxMessages)
    }
  }
  const link = createLink({
    bus,
    stream,
    consumer,
    heartbeatMs: timing.heartbeatMs,
    lookMs: timing.lookMs,
    logger,
    room: () => (ledger.bytes() >= heldBytes ? 0 : window - ledger.size()),
    least: Math.max(1, window >> 2),
    onMessage: (message) => {
      const held = ledger.take(readDelivery(message), message.reply as string)
      if (held !== undefined) waitingBatch.push(held)
      pump()
      link.fill()
    },
    onLinked: (same) => {
      ledger.open(same)
      tellState()
    },
    onUnlinked: (reason) => {
      ledger.close()
      tellState(reason)
    },
  })
  const working = setInterval(() => ledger.working(timing.workingMs / 2), timing.workingMs)
  tellState()

  const stop = async (): Promise<void> => {
    stopping.abort()
    tellState()
    link.stop()
    clearTimeout(waitTimer)
    ledger.giveBack(waitingBatch)
    waitingBatch = []
    await Promise.all(active)
    clearInterval(working)
    if (bus.isConnected()) await bus.nc.flush().catch(() => {})
  }
  const stats = () => ({ ...counts, held: ledger.size(), holds: holding.holds() })
  return { stop, stats }
}
