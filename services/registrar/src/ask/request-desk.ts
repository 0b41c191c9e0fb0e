import { randomUUID } from 'node:crypto'
import { type Gate, InfrastructureError, type Logger, short } from '@lenserfight/runtime'
import { parseDoorSubject } from '@lenserfight/schemas'
import type { Budget } from '../budget.ts'
import type { Answered, Answerer, Request } from './answer-request.ts'
import { type Outcome, refused } from './outcome.ts'
import { createWaitingLine, type LineBounds } from './waiting-line.ts'

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
  readonly bounds: LineBounds
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

/**
 * Takes requests in the order in which they come, a bounded number at once and waiting. What is over a bound is
 * answered `rate_limited` while the budget for unproven answers lasts, then dropped: a request is asked again if
 * unanswered, and memory must not grow with somebody's patience.
 */
export const createDesk = ({ answer, send, unproven, gate, logger, lines, bounds }: DeskOptions): Desk => {
  const line = createWaitingLine<Request>(bounds)
  const counts = { answered: 0, refused: 0, dropped: 0, unlogged: 0 }
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

  const next = (): void => {
    for (let request = line.take(); request !== undefined; request = line.take()) {
      const taken = request
      void work(taken)
        .catch((err: unknown) => logger.error({ event: 'answer_failed', err }, 'an answer could not be sent'))
        .finally(() => {
          line.leave(taken)
          next()
        })
    }
    if (!line.isEmpty()) return
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
    if (!line.enter(request)) {
      reply(request, { outcome: { ...refused('rate_limited'), retry_after: retryAfterSeconds }, proven: false })
      return
    }
    next()
  }

  const idle = (): Promise<void> => (line.isEmpty() ? Promise.resolve() : new Promise((done) => waiters.push(done)))

  return { offer, idle, figures: () => ({ ...counts, waiting: line.waiting() }) }
}
