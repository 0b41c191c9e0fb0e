import { type Bus, type Listening, listen } from '@lenserfight/bus'
import { codeOf, InfrastructureError, type Logger, short } from '@lenserfight/runtime'
import type { Judge, Judgement } from './judge.ts'
import type { JwtSigner } from './jwt.ts'
import { createRateBound } from './rate-bound.ts'
import { isBrokerReply, readRequest } from './request.ts'
import { admit, refuseConnection } from './response.ts'

export interface CalloutOptions {
  readonly bus: Bus
  readonly judge: Judge
  readonly signer: JwtSigner
  readonly deadlineMs: number
  readonly maxInFlight: number
  readonly logger: Logger
  /** Whether the database answers, as far as is known; while it does not, everybody is refused at once. */
  readonly isOpen: () => boolean
  /** A judgement failed for want of infrastructure. */
  readonly onInfrastructure: () => void
}

export interface Callout {
  readonly details: () => object
  readonly stop: () => Promise<void>
}

/** Lines a second about refusals: whoever knocks with garbage must not fill the disk. */
const refusalLines = 20

/** Answers the broker's question for each connection: only signed answers, only to the server that asked. */
export const startCallout = (options: CalloutOptions): Callout => {
  const { bus, judge, signer, deadlineMs, maxInFlight, logger } = options
  const mayLog = createRateBound(refusalLines)
  const counts = { admitted: 0, refused: 0, late: 0, foreign: 0 }

  const judged = async (request: Parameters<Judge>[0]): Promise<Judgement> => {
    if (!options.isOpen()) return { code: 'unavailable' }
    try {
      return await judge(request)
    } catch (err) {
      if (err instanceof InfrastructureError) options.onInfrastructure()
      else logger.error({ event: 'judgement_failed', err }, 'a connection could not be judged')
      return { code: codeOf(err) }
    }
  }
  const tell = (judgement: Judgement): void => {
    if ('grant' in judgement) {
      counts.admitted += 1
      logger.debug({ event: 'admitted', kid: judgement.grant.kid }, 'a connection was admitted')
      return
    }
    counts.refused += 1
    const { code, kid } = judgement
    if (mayLog()) logger.info({ event: 'refused', code, kid: kid && short(kid) }, 'a connection was refused')
  }
  const listening: Listening = listen({
    bus,
    subjects: ['$SYS.REQ.USER.AUTH'],
    queue: 'broker-auth',
    maxInFlight,
    logger,
    onMessage: async (message) => {
      const arrived = Date.now()
      const request = readRequest(message.data)
      const { reply } = message
      if (request === undefined || !isBrokerReply(reply)) {
        counts.foreign += 1
        logger.error({ event: 'foreign_request' }, 'a request that no server of ours signed')
        return
      }
      const judgement = await judged(request)
      // The broker gave up on it: an answer would only cost its signatures.
      if (Date.now() - arrived > deadlineMs) {
        counts.late += 1
        return
      }
      tell(judgement)
      const answer =
        'grant' in judgement
          ? admit(signer, request, judgement.grant)
          : refuseConnection(signer, request, judgement.code)
      bus.tell(reply, answer)
    },
  })
  return { details: () => ({ ...counts, ...listening.stats() }), stop: listening.stop }
}
