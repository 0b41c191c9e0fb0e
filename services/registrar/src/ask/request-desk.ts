import { randomUUID } from 'node:crypto'
import { type Gate, InfrastructureError, type Logger, short } from '@lenserfight/runtime'
import { parseDoorSubject } from '@lenserfight/schemas'
import type { Budget } from '../budget.ts'
import type { Answered, Answerer, Request } from './answer-request.ts'
import { type Outcome, refused } from './outcome.ts'

/** What goes back to the asker; the sender adds to whom, when and the digest of the request. */
export type Reply = Outcome & { readonly retry_after?: number; readonly incident_id?: string }

export interface DeskOptions {
  readonly answer: Answerer
  readonly send: (request: Request, reply: Reply) => void
  /** For answers to requests that nobody proved to have made. */
  readonly unproven: Budget
  readonly gate: Gate
  readonly logger: Logger
  /** Lines about requests; those over it are counted. Apart, so that nobody's garbage hides what was really asked. */
  readonly lines: { readonly proven: Budget; readonly unproven: Budget }
  readonly bounds: DeskBounds
}

export interface DeskBounds {
  /** Requests worked on at once. */
  readonly at_once: number
  /** Requests that wait; more are turned away. */
  readonly waiting: number
  /** Requests of one key id that wait or are worked on: one asker cannot take the whole desk. */
  readonly per_kid: number
}

export interface Desk {
  readonly offer: (subject: string, bytes: Uint8Array) => void
  /** Resolves when nothing waits and nothing is worked on. */
  readonly idle: () => Promise<void>
  readonly figures: () => DeskFigures
}

export interface DeskFigures {
  readonly answered: number
  readonly refused: number
  readonly dropped: number
  readonly waiting: number
  /** Requests that were judged without a line in the log. */
  readonly unlogged: number
}

/** Seconds after which an edge may ask again while the database is gone. */
const retryAfterSeconds = 2

/** Kinds whose answer may take as long as a statement may: an account's whole chain is read. */
const slowKinds: ReadonlySet<string> = new Set(['audit_verify'])
const isSlow = ({ subject }: Request): boolean => slowKinds.has(subject.kind)
/** So much of the desk and of its queue may be theirs: the rest, and its connections, are left to what is answered at once. */
const slowShare = 1 / 8
const slowOf = (bound: number): number => Math.max(1, Math.floor(bound * slowShare))

/**
 * Takes requests in the order in which they come, a bounded number at once and waiting. What is over a bound is
 * answered `rate_limited` while the budget for unproven answers lasts, then dropped: a request is asked again if
 * unanswered, and memory must not grow with somebody's patience.
 */
export const createDesk = ({ answer, send, unproven, gate, logger, lines, bounds }: DeskOptions): Desk => {
  const queue: Request[] = []
  const load = new Map<string, number>()
  const counts = { answered: 0, refused: 0, dropped: 0, unlogged: 0 }
  let working = 0
  let slowWorking = 0
  let slowWaiting = 0
  let waiters: (() => void)[] = []

  const reply = (request: Request, answered: Answered & { outcome: Reply }): void => {
    if (!answered.proven && !unproven.take()) {
      counts.dropped += 1
      return
    }
    counts[answered.outcome.ok ? 'answered' : 'refused'] += 1
    send(request, answered.outcome)
  }

  const failed = (error: unknown, { subject }: Request): Reply => {
    if (error instanceof InfrastructureError) {
      gate.suspect()
      return { ...refused('unavailable'), retry_after: retryAfterSeconds }
    }
    const incident = randomUUID()
    logger.error({ event: 'request_failed', incident, kind: subject.kind, err: error }, 'a request failed')
    return { ...refused('internal_error'), incident_id: incident }
  }

  const tell = ({ subject: { kind, kid } }: Request, { outcome, proven }: Answered): void => {
    if (!lines[proven ? 'proven' : 'unproven'].take()) {
      counts.unlogged += 1
      return
    }
    const { ok, code } = { code: undefined, ...outcome }
    logger.info({ event: 'request', kind, kid: short(kid), ok, code, proven }, 'a request was judged')
  }

  const work = async (request: Request): Promise<void> => {
    if (!gate.isOpen()) {
      reply(request, { outcome: { ...refused('unavailable'), retry_after: retryAfterSeconds }, proven: false })
      return
    }
    try {
      const answered = await answer(request)
      tell(request, answered)
      reply(request, answered)
    } catch (error) {
      reply(request, { outcome: failed(error, request), proven: false })
    }
  }

  const release = ({ subject: { kid } }: Request): void => {
    const left = (load.get(kid) ?? 1) - 1
    if (left === 0) load.delete(kid)
    else load.set(kid, left)
  }

  /** The first of the queue that may be worked on now. */
  const take = (): Request | undefined => {
    const index = queue.findIndex((request) => !isSlow(request) || slowWorking < slowOf(bounds.at_once))
    const [request] = index === -1 ? [] : queue.splice(index, 1)
    if (request !== undefined && isSlow(request)) {
      slowWaiting -= 1
      slowWorking += 1
    }
    return request
  }
  const next = (): void => {
    while (working < bounds.at_once) {
      const request = take()
      if (request === undefined) break
      working += 1
      void work(request)
        .catch((err: unknown) => logger.error({ event: 'answer_failed', err }, 'an answer could not be sent'))
        .finally(() => {
          working -= 1
          if (isSlow(request)) slowWorking -= 1
          release(request)
          next()
        })
    }
    if (working > 0 || queue.length > 0) return
    for (const done of waiters) done()
    waiters = []
  }

  const offer = (subject: string, bytes: Uint8Array): void => {
    const door = parseDoorSubject(subject)
    // The broker lets nobody say this; there is nobody to answer.
    if (door?.door !== 'ask') {
      counts.dropped += 1
      return
    }
    const request = { subject: door, bytes }
    const ofKid = load.get(door.kid) ?? 0
    const isSlowOver = isSlow(request) && slowWaiting >= slowOf(bounds.waiting)
    if (queue.length >= bounds.waiting || ofKid >= bounds.per_kid || isSlowOver) {
      reply(request, { outcome: { ...refused('rate_limited'), retry_after: retryAfterSeconds }, proven: false })
      return
    }
    load.set(door.kid, ofKid + 1)
    if (isSlow(request)) slowWaiting += 1
    queue.push(request)
    next()
  }

  const idle = (): Promise<void> =>
    working === 0 && queue.length === 0 ? Promise.resolve() : new Promise((done) => waiters.push(done))

  return { offer, idle, figures: () => ({ ...counts, waiting: queue.length }) }
}
