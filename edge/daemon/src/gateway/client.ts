import { setTimeout as sleep } from 'node:timers/promises'
import { type EnvelopeSigner, encodeBase64Url } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import {
  type AnswerBody,
  askSubject,
  type ChangeBody,
  CodedError,
  hasCounter,
  inSubject,
  type KindName,
  outSubject,
  type ReasonCode,
  type ReceiptItem,
  reasonOf,
} from '@lenserfight/schemas'
import type { Counter } from '../counter.ts'
import type { Link } from './link.ts'
import type { GatewayTrust } from './trust.ts'

const firstTryMs = 2_000
const resignMs = 250
/** A fresh nonce cures a replay; what three new signatures do not cure (a wrong clock) the next will not either. */
const mostResigns = 3
/** Codes at the ask door that pass by themselves; every other `wait` is for a person to end. */
const passing: readonly ReasonCode[] = ['unavailable', 'rate_limited', 'internal_error']

export interface ClientOptions {
  readonly link: Link
  readonly signer: EnvelopeSigner
  /** The account in the subjects; `nilUuid` for a session that has not signed in. */
  readonly lenser: string
  readonly trust: GatewayTrust
  /** Numbers what goes through the ingress door; a session sends nothing there. */
  readonly counter?: Counter
  readonly logger?: Logger
  /** Items of receipts that the gateway signed, and which of its services did. */
  readonly onReceipt?: (items: readonly ReceiptItem[], service: string) => void
  /** The gateway says that there is something to pull. */
  readonly onChange?: (notice: ChangeBody) => void
  /** A message in the gateway's name was not the gateway's, or its signer's key is newer than ours. */
  readonly onUntrusted?: () => void
}

/** One key's conversation with the gateway: requests with their answers, and what goes through the ingress door. */
export interface GatewayClient {
  /**
   * Asks, signing each try anew, until an answer, a refusal that asking again does not change, or the deadline.
   * @throws CodedError `answer_timeout`
   */
  readonly ask: (kind: KindName, body: object, options: { deadlineMs: number }) => Promise<AnswerBody>
  readonly sign: (kind: KindName, body: object) => { digest: string; bytes: Uint8Array }
  /** Sends through the ingress door; what is lost is sent again by who waits for its receipt. */
  readonly publish: (kind: KindName, bytes: Uint8Array) => void
}

/**
 * The result of an answer.
 * @throws CodedError the refusal's code
 */
export const resultOf = ({ ok, code, detail, result, incident_id }: AnswerBody): Readonly<Record<string, unknown>> => {
  if (!ok) throw new CodedError(code ?? 'internal_error', detail ?? (incident_id && `incident ${incident_id}`))
  return result ?? {}
}

/** How long to wait before asking again, or undefined where an answer is the last word. */
const pauseOf = ({ code, retry_after }: AnswerBody, tries: number): number | undefined => {
  if (code === undefined) return undefined
  if (passing.includes(code)) return Math.max(1000, (retry_after ?? 0) * 1000)
  return reasonOf(code).next === 'resign' && tries <= mostResigns ? resignMs : undefined
}

const numberOf = (counter: Counter | undefined): number => {
  if (counter === undefined) throw new TypeError('what goes through the ingress door is counted')
  return counter.next()
}

export const createGatewayClient = (options: ClientOptions): GatewayClient => {
  const { link, signer, lenser, trust, counter, logger, onReceipt = () => {}, onUntrusted = () => {} } = options
  const { onChange = () => {} } = options
  const { kid } = signer
  const asked = new Map<string, (answer: AnswerBody) => void>()
  const answers = outSubject(lenser, kid, 'answer')
  const receipts = outSubject(lenser, kid, 'receipt')
  const changes = outSubject(lenser, kid, 'change')

  const hear = (subject: string, bytes: Uint8Array): void => {
    if (subject === answers) {
      const { body: answer } = trust.open('answer', bytes, kid)
      asked.get(answer.digest)?.(answer)
    } else if (subject === receipts) {
      const { body, service } = trust.open('receipt', bytes, kid)
      onReceipt(body.items, service)
    } else if (subject === changes) {
      onChange(trust.open('change', bytes, kid).body)
    } else if (subject === 'ltg.v1.ctl.keys') {
      trust.offerKeys(Buffer.from(bytes).toString('utf8'))
    }
  }
  link.onMessage((subject, bytes) => {
    try {
      hear(subject, bytes)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      if (error.code === 'state_unwritable') {
        // What cannot be kept was not heard: the gateway says it again when it is asked again.
        logger?.error({ event: 'message_unkept', subject, err: error }, 'what the gateway said could not be kept')
        return
      }
      if (error.code !== 'signer_untrusted') throw error
      logger?.error({ event: 'signer_untrusted', subject, err: error }, 'a message in the gateway’s name was ignored')
      onUntrusted()
    }
  })

  const sign = (kind: KindName, body: object): { digest: string; bytes: Uint8Array } => {
    const counted = hasCounter(kind) ? { counter: numberOf(counter) } : {}
    const { bytes, digest } = signer.sign({ body: { ...body, ...counted, kind, aud: trust.descriptor.gateway_id } })
    return { bytes, digest: encodeBase64Url(digest) }
  }

  /** One try: the answer to it or to an earlier one, or undefined when time is up. */
  const tryOnce = async (
    { kind, body, waitMs, ends }: { kind: KindName; body: object; waitMs: number; ends: AbortSignal },
    answered: Promise<AnswerBody>,
    onAnswer: (answer: AnswerBody) => void,
  ): Promise<AnswerBody | undefined> => {
    const { digest, bytes } = sign(kind, body)
    asked.set(digest, onAnswer)
    ends.addEventListener('abort', () => asked.delete(digest))
    link.publish(askSubject({ lenser, kid, kind }), bytes)
    const timer = new AbortController()
    try {
      return await Promise.race([answered, sleep(waitMs, undefined, { signal: timer.signal })])
    } finally {
      timer.abort()
    }
  }

  const ask: GatewayClient['ask'] = async (kind, body, { deadlineMs }) => {
    const end = performance.now() + deadlineMs
    const ends = new AbortController()
    let { promise, resolve } = Promise.withResolvers<AnswerBody>()
    try {
      for (let waitMs = firstTryMs, tries = 1; ; waitMs *= 2, tries += 1) {
        const left = end - performance.now()
        if (left <= 0) throw new CodedError('answer_timeout', kind)
        const onAnswer = (answer: AnswerBody): void => resolve(answer)
        const answer = await tryOnce(
          { kind, body, waitMs: Math.min(waitMs, left), ends: ends.signal },
          promise,
          onAnswer,
        )
        const pause = answer && pauseOf(answer, tries)
        if (answer !== undefined && (pause === undefined || performance.now() + pause >= end)) return answer
        if (pause !== undefined) {
          await sleep(pause)
          ;({ promise, resolve } = Promise.withResolvers<AnswerBody>())
        }
      }
    } finally {
      ends.abort()
    }
  }

  return {
    ask,
    sign,
    publish: (kind, bytes) => link.publish(inSubject({ lenser, kid, kind }), bytes),
  }
}
