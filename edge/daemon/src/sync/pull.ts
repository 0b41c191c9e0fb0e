import type { Logger } from '@lenserfight/runtime'
import { CodedError, mayConclude, pullableClasses, type ReasonCode, type ReceiptItem } from '@lenserfight/schemas'
import type { GatewayClient } from '../gateway/client.ts'
import type { Timing } from '../outbox/decide.ts'
import { type Applied, applyPage } from './apply-page.ts'
import { backoffMs } from './jitter.ts'
import { readFeedPage } from './pull-result.ts'
import type { SyncTables } from './tables.ts'

/** Requests whose answer would still be taken. */
const remembered = 8
/** However long nobody answers, it is asked again within so many times the usual. */
const mostPauses = 6
/** How often a reading may begin anew, as each class may once, before it is no better than a failure. */
const mostRestarts = 2 * pullableClasses.length
/** Between two pulls that notices of a change cause, milliseconds. */
const calmMs = 100

/** What a pull brought. */
export interface Pulled {
  readonly rows: number
  readonly objects: number
  /** Everything was read that there was when it was asked for. */
  readonly done: boolean
}

/** Reads the feed, page after page. Requests are no operations: a lost one is followed by the next. */
export interface Pull {
  readonly attach: (client: Pick<GatewayClient, 'sign' | 'publish'>) => void
  readonly detach: () => void
  /** There is something to pull, somebody says. */
  readonly notice: () => void
  /** Something is to be read anew: what was asked before says nothing of it. */
  readonly restart: () => void
  /** Pulls at once and resolves when all is read, or when time is up. */
  readonly pullNow: (timeoutMs: number, signal?: AbortSignal) => Promise<Pulled>
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  readonly isFailing: () => boolean
  readonly close: () => void
}

export interface PullOptions {
  readonly tables: SyncTables
  readonly deviceId: () => string
  /** What this machine says of its own sync. */
  readonly report: () => object
  readonly everyMs: number
  readonly timing: Timing
  readonly logger: Logger
  readonly onCode: (code: ReasonCode | null) => void
  /** Told when everything was read. */
  readonly onPulled: () => void
  readonly onRefused: (code: ReasonCode) => void
  /** Told why none could be signed or kept: the disk does not take it. */
  readonly onUnable?: (code: ReasonCode) => void
  /** Milliseconds since 1970. */
  readonly now?: () => number
  readonly random?: () => number
}

interface Waiting {
  rows: number
  readonly objects: Set<string>
  /** The first round that began after it was asked for. */
  readonly round: number
  readonly end: (done: boolean) => void
}

export const createPull = (options: PullOptions): Pull => {
  const { tables, deviceId, report, everyMs, timing, logger, onCode, onPulled, onRefused } = options
  const { onUnable = () => {}, now = Date.now, random = Math.random } = options
  /** Requests, and in which reading each was made. */
  const sent = new Map<string, number>()
  const compared = new Map<string, number>()
  const waiting = new Set<Waiting>()
  let client: Pick<GatewayClient, 'sign' | 'publish'> | undefined
  let timer: NodeJS.Timeout | undefined
  /** Counts readings from the cursors to the head. */
  let round = 0
  let isUnderWay = false
  let isWanted = false
  let failures = 0
  let restarts = 0
  let askedAt = Number.NEGATIVE_INFINITY

  const askIn = (ms: number): void => {
    clearTimeout(timer)
    if (client !== undefined) timer = setTimeout(ask, ms)
  }
  const fail = (code: ReasonCode): void => {
    isUnderWay = false
    failures += 1
    askIn(Math.min(backoffMs(failures, timing, random()), mostPauses * everyMs))
    onCode(code)
  }
  /** No answer: it or the request was lost, or nobody is there to give one. */
  const silent = (): void => fail('answer_timeout')

  const sign = (by: Pick<GatewayClient, 'sign'>) => {
    const cursors = Object.fromEntries(tables.cursors().map(({ class: name, after }) => [name, after]))
    return by.sign('sync_pull', { epoch: tables.fact('epoch') ?? null, cursors, report: report() })
  }
  const askPage = (): void => {
    if (client === undefined) return
    clearTimeout(timer)
    isUnderWay = true
    askedAt = performance.now()
    try {
      const { digest, bytes } = sign(client)
      sent.set(digest, round)
      const [oldest] = sent.keys()
      if (sent.size > remembered && oldest !== undefined) sent.delete(oldest)
      client.publish('sync_pull', bytes)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      logger.warn({ event: 'pull_unsent', code: error.code }, 'a pull could not be signed')
      onUnable(error.code)
      fail(error.code)
      return
    }
    timer = setTimeout(silent, backoffMs(failures, timing, random()))
  }
  /** Begins a reading. */
  const ask = (): void => {
    if (client === undefined) return
    isWanted = false
    round += 1
    askPage()
  }
  const askSoon = (): void => {
    if (isUnderWay) isWanted = true
    else askIn(Math.max(0, calmMs - (performance.now() - askedAt)))
  }

  const finish = (applied: Applied, of: number): void => {
    isUnderWay = false
    failures = 0
    restarts = 0
    tables.setFact('last_pull_at', now())
    onCode(applied.differing.length > 0 ? 'sync_diverged' : null)
    for (const each of [...waiting]) if (each.round <= of) each.end(true)
    if (isWanted) ask()
    else askIn(everyMs)
    onPulled()
  }
  const take = (result: unknown, of: number): void => {
    const page = readFeedPage(result)
    if (page === undefined) {
      logger.error({ event: 'pull_unreadable' }, 'what was pulled does not have its form')
      fail('internal_error')
      return
    }
    const applied = applyPage({ tables, by: { deviceId: deviceId(), now: now() }, compared }, page)
    if (applied.isFormer) {
      // What is asked for now is awaited still.
      logger.warn({ event: 'pull_former', epoch: page.epoch }, 'an answer of a former epoch is not taken')
      return
    }
    if (applied.isAnew) {
      sent.clear()
      restarts += 1
    }
    for (const each of waiting) {
      each.rows += applied.rows
      for (const name of applied.objects) each.objects.add(name)
    }
    if (applied.rows > 0)
      logger.info({ event: 'pulled', rows: applied.rows, more: applied.more }, 'changes were pulled')
    if (restarts > mostRestarts) {
      restarts = 0
      fail('resync_required')
    } else if (applied.more) askPage()
    else finish(applied, of)
  }

  return {
    attach: (next) => {
      client = next
      ask()
    },
    detach: () => {
      client = undefined
      isUnderWay = false
      clearTimeout(timer)
    },
    notice: askSoon,
    restart: () => {
      sent.clear()
      isUnderWay = false
      askSoon()
    },
    pullNow: async (timeoutMs, signal) => {
      if (client === undefined) throw new CodedError('gateway_unreachable')
      const { promise, resolve } = Promise.withResolvers<boolean>()
      const mine: Waiting = { rows: 0, objects: new Set(), round: round + 1, end: resolve }
      waiting.add(mine)
      if (isUnderWay) isWanted = true
      else ask()
      const timeUp = setTimeout(resolve, timeoutMs, false)
      signal?.addEventListener('abort', () => resolve(false), { once: true })
      try {
        const done = await promise
        return { rows: mine.rows, objects: mine.objects.size, done }
      } finally {
        clearTimeout(timeUp)
        waiting.delete(mine)
      }
    },
    receive: (items, service) => {
      for (const item of items) {
        const of = sent.get(item.digest)
        if (of === undefined || !mayConclude(service, 'sync_pull', item.ok)) continue
        sent.delete(item.digest)
        if (!item.ok) {
          const { code = 'internal_error' } = item
          logger.warn({ event: 'pull_refused', code }, 'a pull was refused')
          fail(code)
          onRefused(code)
          continue
        }
        try {
          take(item.result, of)
        } catch (error) {
          // The cursors are where they were: the same rows come again. Whatever a page says, this machine goes on.
          const code = error instanceof CodedError ? error.code : 'internal_error'
          logger.error({ event: 'pull_unkept', code, err: error }, 'what was pulled could not be kept')
          if (code === 'state_unwritable') onUnable(code)
          fail(code)
        }
      }
    },
    isFailing: () => failures > 0,
    close: () => {
      client = undefined
      clearTimeout(timer)
      for (const { end } of waiting) end(false)
    },
  }
}
