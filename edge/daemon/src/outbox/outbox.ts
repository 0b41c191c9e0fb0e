import { canonicalize, newUuidV7 } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import { CodedError, type KindName, limits, type ReasonCode, type ReceiptItem } from '@lenserfight/schemas'
import type { Store } from '../store.ts'
import {
  type Circumstances,
  decideReceipt,
  defaultTiming,
  firstResendMs,
  type Outcome,
  resendDelayMs,
  smooth,
  type Timing,
  windowAfter,
} from './decide.ts'
import { createOperations, type Operation } from './operations.ts'

const keepEndedMs = 7 * 24 * 3600 * 1000

/** What sends, while there is a connection that lets this device send. */
export interface Sender {
  /** Kinds that the device's state may send. */
  readonly kinds: readonly KindName[]
  /** Signs a body anew. The digest is base64url. */
  readonly sign: (body: object) => { digest: string; bytes: Uint8Array }
  readonly publish: (kind: KindName, bytes: Uint8Array) => void
}

export interface OutboxOptions {
  readonly store: Store
  readonly logger: Logger
  /** Milliseconds since 1970. */
  readonly now?: () => number
  readonly random?: () => number
  readonly timing?: Timing
  /** Calls back once after so many milliseconds, until it is cancelled. */
  readonly setTimer?: (call: () => void, ms: number) => () => void
  /** How many operations may be open at once. */
  readonly capacity?: number
  /** Refuses a body that could never be sent, by throwing a CodedError. */
  readonly check?: (body: object) => void
  /** Told of each refusal that is not final: a device's state may have changed. */
  readonly onRefused?: (code: ReasonCode) => void
}

/** What `lf gateway status` shows of the outbox. */
export interface OutboxStatus {
  readonly open: number
  readonly in_flight: number
  readonly window: number
  /** Milliseconds since 1970. */
  readonly oldest_at: number | null
  readonly receipt_ms: number | null
}

/**
 * Operations that this device owes the gateway, durable before they are sent, each sent until a receipt ends it: one
 * result each (law 2). The broker's acknowledgement is never asked for.
 */
export interface Outbox {
  /**
   * Keeps an operation and sends it when it can. On return it is on the disk.
   * @throws CodedError `outbox_full`, `state_unwritable`, and what `check` throws
   */
  readonly enqueue: (operation: {
    kid: string
    kind: KindName
    opId?: string
    body: Readonly<Record<string, unknown>>
  }) => Operation
  readonly find: (opId: string) => Operation | undefined
  /** Resolves with the operation once it has ended, or as it stands when time is up or the signal aborts. */
  readonly wait: (opId: string, timeoutMs: number, signal?: AbortSignal) => Promise<Operation | undefined>
  /** Takes back an operation that was never sent. */
  readonly withdraw: (opId: string) => boolean
  /** Starts sending; what awaits a receipt is soon sent again, since receipts are not kept for who is away. */
  readonly attach: (sender: Sender) => void
  readonly detach: () => void
  /** Takes the items of a receipt whose signature was verified. */
  readonly receive: (items: readonly ReceiptItem[]) => void
  /** Makes everything due at once: what stood in its way may be gone. */
  readonly hasten: () => void
  /** Ends all open operations, or all but one device's: nothing can be sent in the others' names any more. */
  readonly failAll: (code: ReasonCode, detail: string, exceptKid?: string) => number
  readonly status: () => OutboxStatus
  readonly close: () => void
}

const systemTimer = (call: () => void, ms: number): (() => void) => {
  const timer = setTimeout(call, ms)
  return () => clearTimeout(timer)
}

/** @throws CodedError `state_unwritable` */
export const createOutbox = (options: OutboxOptions): Outbox => {
  const { store, logger, now = Date.now, random = Math.random, timing = defaultTiming } = options
  const { capacity = limits.outboxEntries, setTimer = systemTimer, check = () => {}, onRefused = () => {} } = options
  const operations = createOperations(store)
  const waiters = new Map<string, Set<() => void>>()
  let sender: Sender | undefined
  let cancelTimer = (): void => {}
  let window: number = limits.inFlight
  let smoothedMs: number | undefined
  let lastPressureAt = Number.NEGATIVE_INFINITY

  const around = (): Circumstances => ({ now: now(), smoothedMs, random: random(), timing })

  const press = (at: number): void => {
    // One halving for one silence, however many messages it swallowed.
    if (at - lastPressureAt < firstResendMs({ smoothedMs, timing })) return
    lastPressureAt = at
    window = windowAfter(window, 'pressure')
  }

  const wake = (opId: string): void => {
    for (const resolve of waiters.get(opId) ?? []) resolve()
    waiters.delete(opId)
  }

  const schedule = (): void => {
    cancelTimer()
    if (sender === undefined) return
    const at = operations.nextAt(sender.kinds)
    if (at === undefined) return
    // Due ones that the window holds back are sent when a receipt opens it, or else when an answer is overdue.
    const wait = at <= now() ? firstResendMs({ smoothedMs, timing }) : at - now()
    cancelTimer = setTimer(pump, Math.min(wait, 60_000))
  }

  /** Signs and records every attempt in one durable step, then publishes: a receipt always finds its digest. */
  const pump = (): void => {
    if (sender === undefined) return
    const at = now()
    const room = window - operations.countInFlight(at)
    const due = room > 0 ? operations.due(sender.kinds, at, room) : []
    if (due.some(({ state }) => state === 'sent')) press(at)
    const { sign, publish } = sender
    const signed = due.map((operation) => ({ operation, ...sign(JSON.parse(operation.body) as object) }))
    if (signed.length > 0) {
      store.transaction(() => {
        for (const { operation, digest } of signed) {
          const nextAt = at + resendDelayMs(operation.attempts + 1, around())
          operations.markSent({ opId: operation.opId, digest, now: at, nextAt })
        }
      })
    }
    for (const { operation, bytes } of signed) publish(operation.kind, bytes)
    schedule()
  }

  const receiveOne = (item: ReceiptItem): string | undefined => {
    const attempt = operations.findAttempt(item.digest)
    const operation = attempt && operations.find(attempt.opId)
    if (attempt === undefined || operation === undefined) return undefined
    const circumstances = around()
    if (operation.state !== 'done') smoothedMs = smooth(smoothedMs, Math.max(0, circumstances.now - attempt.sentAt))
    const decision = decideReceipt(operation, item, { ...circumstances, isLatest: attempt.isLatest })
    const { opId, kind } = operation
    if (decision.do === 'finish') {
      window = windowAfter(window, 'receipt')
      operations.finish({ opId, state: decision.state, outcome: decision.outcome, now: circumstances.now })
      logger.info({ event: 'operation_ended', kind, op_id: opId, code: item.code ?? 'ok' }, 'an operation ended')
      return opId
    }
    if (decision.do === 'again') {
      operations.markRefused({ opId, code: decision.code, nextAt: decision.at })
      if (decision.pressure) press(circumstances.now)
      logger.warn({ event: 'operation_refused', kind, op_id: opId, code: decision.code }, 'sent again later')
      onRefused(decision.code)
    }
    return undefined
  }

  const end = (opId: string, outcome: Outcome): void => {
    operations.finish({ opId, state: 'failed', outcome, now: now() })
  }

  operations.prune(now() - keepEndedMs)

  return {
    enqueue: ({ kid, kind, opId = newUuidV7(now()), body }) => {
      const known = operations.find(opId)
      if (known !== undefined) return known
      if (operations.countOpen() >= capacity) throw new CodedError('outbox_full')
      const whole = { ...body, kind, op_id: opId }
      check(whole)
      operations.insert({ opId, kid, kind, body: canonicalize(whole) }, now())
      queueMicrotask(pump)
      return operations.find(opId) as Operation
    },
    find: operations.find,
    wait: async (opId, timeoutMs, signal) => {
      const operation = operations.find(opId)
      if (operation === undefined || operation.outcome !== null || signal?.aborted) return operation
      await new Promise<void>((resolve) => {
        const mine = waiters.get(opId) ?? new Set()
        waiters.set(opId, mine)
        const late = setTimeout(() => done(), timeoutMs)
        const done = (): void => {
          clearTimeout(late)
          signal?.removeEventListener('abort', done)
          mine.delete(done)
          if (mine.size === 0) waiters.delete(opId)
          resolve()
        }
        mine.add(done)
        signal?.addEventListener('abort', done)
      })
      return operations.find(opId)
    },
    withdraw: (opId) => operations.removeUnsent(opId),
    attach: (next) => {
      sender = next
      operations.hasten(now() + Math.round(random() * timing.resendFloorMs))
      pump()
    },
    detach: () => {
      sender = undefined
      cancelTimer()
    },
    receive: (items) => {
      const ended = store.transaction(() => items.map(receiveOne))
      for (const opId of ended) if (opId !== undefined) wake(opId)
      pump()
    },
    hasten: () => {
      operations.hasten(now())
      pump()
    },
    failAll: (code, detail, exceptKid) => {
      const open = operations.open().filter(({ kid }) => kid !== exceptKid)
      store.transaction(() => {
        for (const { opId } of open) end(opId, { ok: false, code, detail })
      })
      for (const { opId } of open) wake(opId)
      return open.length
    },
    status: () => ({
      open: operations.countOpen(),
      in_flight: operations.countInFlight(now()),
      window,
      oldest_at: operations.oldestOpen() ?? null,
      receipt_ms: smoothedMs === undefined ? null : Math.round(smoothedMs),
    }),
    close: () => {
      sender = undefined
      cancelTimer()
      for (const opId of [...waiters.keys()]) wake(opId)
    },
  }
}
