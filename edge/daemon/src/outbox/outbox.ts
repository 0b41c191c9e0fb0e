import { canonicalize, newUuidV7 } from '@lenserfight/envelope'
import { CodedError, type KindName, limits, mayConclude, type ReceiptItem } from '@lenserfight/schemas'
import { decideReceipt, defaultTiming } from './decide.ts'
import { createOperations, type Operation } from './operations.ts'
import { createPace } from './pace.ts'
import type { Outbox, OutboxOptions, Sender } from './types.ts'
import { createWaiters } from './waiters.ts'

const keepEndedMs = 7 * 24 * 3600 * 1000
/** How often what ended long ago is looked for. */
const pruneMs = 3600 * 1000
const longestSleepMs = 60_000

/** @throws CodedError `state_unwritable` */
export const createOutbox = (options: OutboxOptions): Outbox => {
  const { store, logger, now = Date.now, random = Math.random, timing = defaultTiming } = options
  const { capacity = limits.outboxEntries, check = () => {} } = options
  const { onRefused = () => {}, onUnable = () => {}, onEnded = () => {} } = options
  const operations = createOperations(store)
  const waiters = createWaiters()
  const pace = createPace(timing, random)
  let sender: Sender | undefined
  let timer: NodeJS.Timeout | undefined
  let lastPumpAt = Number.NEGATIVE_INFINITY
  let prunedAt = Number.NEGATIVE_INFINITY

  const schedule = (): void => {
    clearTimeout(timer)
    if (sender === undefined) return
    const at = operations.nextAt(sender.kinds)
    if (at === undefined) return
    // Due ones that the window holds back are sent when a receipt opens it, or else when an answer is overdue.
    const wait = at <= now() ? pace.patienceMs(1) : at - now()
    timer = setTimeout(pump, Math.min(wait, longestSleepMs))
  }

  /** Does what the disk may not take now; then it is tried again a little later, and nothing was published. */
  const tryNow = (work: () => void): void => {
    try {
      work()
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'state_unwritable') throw error
      logger.error({ event: 'outbox_unwritable', err: error }, 'the outbox could not be written; tried again')
      onUnable('state_unwritable')
      clearTimeout(timer)
      if (sender !== undefined) timer = setTimeout(pump, timing.resendFloorMs)
    }
  }
  const pump = (): void => tryNow(sendDue)

  /** Signs and records every attempt in one durable step, then publishes: a receipt always finds its digest. */
  const sendDue = (): void => {
    if (sender === undefined) return
    const at = now()
    // After a clock that was set back, nothing would be due for as long as that.
    if (lastPumpAt - at > timing.resendFloorMs) operations.hasten(at + Math.round(random() * timing.resendFloorMs))
    lastPumpAt = at
    const room = pace.window() - operations.countInFlight(at)
    const due = room > 0 ? operations.due(sender.kinds, at, room) : []
    if (due.some(({ state }) => state === 'sent')) pace.press(at)
    const { sign, publish, expect } = sender
    if (due.length > 0) expect?.(due.length)
    const signed = due.map((operation) => ({ operation, ...sign(JSON.parse(operation.body) as object) }))
    if (signed.length > 0) {
      store.transaction(() => {
        for (const { operation, digest } of signed) {
          const nextAt = at + pace.patienceMs(operation.attempts + 1)
          operations.markSent({ opId: operation.opId, digest, now: at, nextAt })
        }
      })
    }
    for (const { operation, bytes } of signed) publish(operation.kind, bytes)
    schedule()
  }

  /** @returns the operation that it ended, if it ended one */
  const receiveOne = (item: ReceiptItem, service: string): Operation | undefined => {
    const attempt = operations.findAttempt(item.digest)
    const operation = attempt && operations.find(attempt.opId)
    if (attempt === undefined || operation === undefined) return undefined
    const { opId, kind } = operation
    if (!mayConclude(service, kind, item.ok)) {
      logger.error({ event: 'receipt_foreign', kind, op_id: opId, from: service }, 'a result from who cannot know it')
      return undefined
    }
    const at = now()
    pace.receiptAfter(at - attempt.sentAt)
    const around = { now: at, smoothedMs: pace.smoothedMs(), random: random(), timing, isLatest: attempt.isLatest }
    const decision = decideReceipt(operation, item, around)
    if (decision.do === 'finish') {
      pace.ended()
      operations.finish({ opId, state: decision.state, outcome: decision.outcome, now: at })
      logger.info({ event: 'operation_ended', kind, op_id: opId, code: item.code ?? 'ok' }, 'an operation ended')
      return operation
    }
    if (decision.do === 'again') {
      operations.markRefused({ opId, code: decision.code, nextAt: decision.at })
      if (decision.pressure) pace.press(at)
      const { incident_id: incident } = item
      logger.warn({ event: 'operation_refused', kind, op_id: opId, code: decision.code, incident }, 'sent again later')
      onRefused(decision.code)
    }
    return undefined
  }

  /** What ended long ago is forgotten, also by a daemon that runs for months. */
  const prune = (): void => {
    if (Math.abs(now() - prunedAt) < pruneMs) return
    prunedAt = now()
    operations.prune(prunedAt - keepEndedMs)
  }
  /**
   * Who fills the outbox must neither keep the key from being changed that what fills it waits for, nor lose what ran or will not
   * run: a tool log alone can be as long as the outbox.
   */
  const roomFor = (kind: KindName): number => {
    if (kind === 'rotate') return Number.POSITIVE_INFINITY
    return kind === 'attestation' || kind === 'run_withdraw' ? capacity + limits.openRuns : capacity
  }
  const enqueue: Outbox['enqueue'] = ({ kid, kind, opId = newUuidV7(now()), body }) => {
    const known = operations.find(opId)
    if (known !== undefined) return known
    prune()
    if (operations.countOpen() >= roomFor(kind)) throw new CodedError('outbox_full')
    const whole = { ...body, kind, op_id: opId }
    check(whole)
    operations.insert({ opId, kid, kind, body: canonicalize(whole) }, now())
    queueMicrotask(pump)
    return operations.find(opId) as Operation
  }
  const abandon: Outbox['abandon'] = (opId) => {
    if (!operations.removeUnsent(opId)) operations.markUnwanted(opId)
  }
  const failAll: Outbox['failAll'] = (code, detail, exceptKid) => {
    const open = operations.open().filter(({ kid }) => kid !== exceptKid)
    store.transaction(() => {
      const outcome = { ok: false, code, detail }
      for (const { opId } of open) operations.finish({ opId, state: 'failed', outcome, now: now() })
    })
    for (const { opId } of open) waiters.wake(opId)
    return open.length
  }

  prune()
  return {
    enqueue,
    failAll,
    find: operations.find,
    withdraw: operations.removeUnsent,
    forget: operations.removeEnded,
    abandon,
    abandonAll: (kind) => {
      const open = operations.open().filter((operation) => operation.kind === kind)
      store.transaction(() => {
        for (const { opId } of open) abandon(opId)
      })
    },
    wait: async (opId, timeoutMs, signal) => {
      const operation = operations.find(opId)
      if (operation === undefined || operation.outcome !== null || signal?.aborted) return operation
      await waiters.wait(opId, timeoutMs, signal)
      return operations.find(opId)
    },
    attach: (next) => {
      sender = next
      tryNow(() => {
        operations.hasten(now() + Math.round(random() * timing.resendFloorMs))
        sendDue()
      })
    },
    detach: () => {
      sender = undefined
      clearTimeout(timer)
    },
    receive: (items, service) => {
      const ended = store.transaction(() => items.map((item) => receiveOne(item, service)))
      for (const operation of ended.filter((each) => each !== undefined)) {
        onEnded(operation)
        waiters.wake(operation.opId)
      }
      pump()
    },
    status: () => ({
      open: operations.countOpen(),
      unwanted: operations.countUnwanted(),
      in_flight: operations.countInFlight(now()),
      window: pace.window(),
      oldest_at: operations.oldestOpen() ?? null,
      receipt_ms: Math.round(pace.smoothedMs() ?? 0) || null,
    }),
    close: () => {
      sender = undefined
      clearTimeout(timer)
      waiters.wakeAll()
    },
  }
}
