import type { Logger } from '@lenserfight/runtime'
import { CodedError, limits, objectClasses, objectClassNames, type ReasonCode } from '@lenserfight/schemas'
import { entryOf } from '@lenserfight/sync'
import type { Timing } from '../outbox/decide.ts'
import type { Outbox } from '../outbox/types.ts'
import { backoffMs } from './jitter.ts'
import type { Leader } from './leader.ts'
import { type Settled, settlePush } from './settle-push.ts'
import { longestWaitMs, type SyncTables } from './tables.ts'
import { setAside } from './transitions.ts'
import type { OutboxEntry } from './types.ts'

/** Classes of which only the machine that leads flushes edits. */
export const coordinatedClasses: readonly string[] = objectClassNames.filter((name) => objectClasses[name].coordinated)

/** What pushes came to since one began to look. */
export interface Tally {
  applied: number
  duplicate: number
  refused: number
}

/** Flushes edits, one push at a time, through the outbox of operations: each push to its one result. */
export interface Push {
  /** There is a connection over which this device may push. */
  readonly attach: () => void
  readonly detach: () => void
  /** An edit was made. */
  readonly edited: () => void
  /** Something that held edits back may have ended: settles what has ended, and sends what is due. */
  readonly look: () => void
  /** The feed was read: what awaited that goes on. */
  readonly pulled: () => void
  /** Sends all that may be, at once, and resolves when no edit waits any more, or when time is up. */
  readonly flush: (timeoutMs: number, signal?: AbortSignal) => Promise<Tally>
  readonly isFailing: () => boolean
  readonly close: () => void
}

export interface PushOptions {
  readonly tables: SyncTables
  readonly outbox: Pick<Outbox, 'enqueue' | 'find' | 'forget'>
  readonly leader: Pick<Leader, 'fence' | 'look'>
  readonly deviceId: () => string
  readonly flushMs: number
  readonly timing: Timing
  readonly logger: Logger
  /** Told of each refusal, of a push or of an edit. */
  readonly onCode: (code: ReasonCode | null) => void
  /** The edits rest on something that is to be pulled first. */
  readonly onPullNeeded: () => void
  /** Told why nothing could be sent just now: the disk does not take it. */
  readonly onUnable?: (code: ReasonCode) => void
  /** Milliseconds since 1970. */
  readonly now?: () => number
  readonly random?: () => number
}

/** Codes of a push that can never be signed and sent, whatever the disk and the gateway do. */
const ofTheBody: readonly ReasonCode[] = ['malformed_body', 'malformed_envelope']

/** As many of them, in their order, as one push may carry. */
export const cutPush = (entries: readonly OutboxEntry[], most: number): readonly OutboxEntry[] => {
  let bytes = 0
  const end = entries.findIndex((entry, index) => {
    bytes += entry.bytes + 1
    return index >= most || (index > 0 && bytes > limits.pushBytes)
  })
  return end < 0 ? entries : entries.slice(0, end)
}

export const createPush = (options: PushOptions): Push => {
  const { tables, outbox, leader, deviceId, flushMs, timing, logger, onCode, onPullNeeded } = options
  const { onUnable = () => {}, now = Date.now, random = Math.random } = options
  let isAttached = false
  /** After a refusal that only a pull can cure, until there was one. */
  let awaitsPull = false
  let isUrgent = false
  let most: number = limits.entriesPerPush
  let failures = 0
  /** Pushes one after another of which nothing was merged and something waits. */
  let stalled = 0
  /** On a clock that nobody sets. */
  let heldUntil = 0
  let timer: NodeJS.Timeout | undefined
  const flushes = new Set<{ tally: Tally; end: () => void }>()

  const schedule = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(look, Math.min(Math.max(0, ms), flushMs))
  }
  const delayAfter = (times: number): number => backoffMs(times, timing, random())

  const learn = (settled: Settled): void => {
    for (const { tally } of flushes) {
      tally.applied += settled.applied
      tally.duplicate += settled.duplicate
      tally.refused += settled.refused
    }
    onCode(settled.code)
    if (settled.isRebasing || settled.do === 'pull') onPullNeeded()
    if (settled.do === 'pull') awaitsPull = true
    if (settled.do === 'judge') {
      most = Math.min(limits.entriesPerPush, most * 2)
      failures = 0
      stalled = settled.applied + settled.duplicate > 0 ? 0 : stalled + 1
      tables.setFact('last_push_at', now())
      return
    }
    if (settled.do === 'halve') {
      most = Math.max(1, Math.floor(settled.count / 2))
      return
    }
    failures += 1
    heldUntil = performance.now() + delayAfter(failures)
  }
  const settleOne = (opId: string): boolean => {
    const operation = outbox.find(opId)
    if (operation !== undefined && operation.outcome === null) return false
    const push = operation && {
      outcome: operation.outcome as NonNullable<typeof operation.outcome>,
      count: (JSON.parse(operation.body) as { entries: unknown[] }).entries.length,
    }
    const by = { deviceId: deviceId(), now: now() }
    const settled = tables.transaction(() => {
      const retryAt = by.now + Math.min(delayAfter(1 + stalled), longestWaitMs)
      const context = { tables, by, retryAt }
      // With its edits: a result is met with once, whenever this process is killed.
      outbox.forget(opId)
      return settlePush(context, opId, push)
    })
    logger.info({ event: 'push_settled', op_id: opId, ...settled }, 'a push has ended')
    learn(settled)
    return true
  }

  /** An entry that no push can carry is its object's alone to wait for. */
  const setAsideOne = (entry: OutboxEntry, error: CodedError): void => {
    tables.transaction(() => {
      const before = tables.find({ class: entry.delta.class, object: entry.delta.object })
      if (before !== undefined)
        tables.save(before, setAside(before, { code: error.code, detail: error.detail ?? null }, now()))
    })
    onCode(error.code)
  }
  /** @returns whether another may be tried at once */
  const send = (entries: readonly OutboxEntry[], epoch: number): boolean => {
    const isCoordinated = entries.some(({ delta }) => coordinatedClasses.includes(delta.class))
    const fence = isCoordinated ? leader.fence() : undefined
    const body = {
      ...{ epoch, entries: entries.map(({ delta }) => entryOf(delta)) },
      ...(fence === undefined ? {} : { fence }),
    }
    try {
      tables.transaction(() => {
        const { opId } = outbox.enqueue({ kid: deviceId(), kind: 'sync_push', body })
        tables.markUnderWay(entries, opId)
      })
      return false
    } catch (error) {
      if (!(error instanceof CodedError) || !ofTheBody.includes(error.code)) throw error
      const [only] = entries
      if (entries.length > 1) most = Math.floor(entries.length / 2)
      else if (only !== undefined) setAsideOne(only, error)
      return true
    }
  }
  const isDue = (pending: { count: number; bytes: number; oldestAt: number | null }): boolean =>
    isUrgent ||
    pending.count >= limits.entriesPerPush ||
    pending.bytes >= limits.pushBytes ||
    Math.abs(now() - (pending.oldestAt ?? 0)) >= flushMs

  const sendDue = (): void => {
    const epoch = tables.fact('epoch')
    // An epoch is learned by the first pull.
    if (!isAttached || awaitsPull || epoch === undefined || performance.now() < heldUntil) return
    if (tables.underWay().length > 0) return
    const pending = tables.pending()
    if (pending.count === 0 || !isDue(pending)) return
    leader.look()
    for (let tries = 0; tries < 16; tries += 1) {
      const without = leader.fence() === undefined ? coordinatedClasses : []
      const entries = cutPush(tables.sendable(now(), without), most)
      if (entries.length === 0 || !send(entries, epoch)) return
    }
  }

  /** Settles and sends, and looks again while anything waits. */
  const look = (): void => {
    clearTimeout(timer)
    try {
      for (const opId of tables.underWay()) settleOne(opId)
      sendDue()
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      // A full disk takes nothing: all of it is there still, and tried again.
      logger.error({ event: 'push_unable', code: error.code, err: error }, 'edits could not be flushed just now')
      onUnable(error.code)
      if (isAttached) schedule(flushMs)
      return
    }
    const { count } = tables.pending()
    if (count === 0) {
      isUrgent = false
      leader.look()
    } else if (isAttached) schedule(flushMs)
    if (count === 0) for (const { end } of flushes) end()
  }

  return {
    attach: () => {
      isAttached = true
      look()
    },
    detach: () => {
      isAttached = false
      clearTimeout(timer)
    },
    edited: () => {
      if (!isAttached) return
      const pending = tables.pending()
      if (pending.count > 0) schedule(isDue(pending) ? 0 : flushMs - (now() - (pending.oldestAt ?? now())))
    },
    look,
    pulled: () => {
      awaitsPull = false
      look()
    },
    flush: async (timeoutMs, signal) => {
      const tally: Tally = { applied: 0, duplicate: 0, refused: 0 }
      const { promise, resolve } = Promise.withResolvers<void>()
      const waiting = { tally, end: resolve }
      flushes.add(waiting)
      isUrgent = true
      const timeUp = setTimeout(resolve, timeoutMs)
      signal?.addEventListener('abort', () => resolve(), { once: true })
      try {
        look()
        await promise
      } finally {
        clearTimeout(timeUp)
        flushes.delete(waiting)
        if (flushes.size === 0) isUrgent = false
      }
      return tally
    },
    isFailing: () => {
      const [opId] = tables.underWay()
      return failures > 0 || (opId !== undefined && (outbox.find(opId)?.attempts ?? 0) > 1)
    },
    close: () => {
      isAttached = false
      clearTimeout(timer)
      for (const { end } of flushes) end()
    },
  }
}
