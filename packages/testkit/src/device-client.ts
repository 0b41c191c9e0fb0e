import { connectEdge, type EdgeBus, type ReconnectTiming, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import { createSigner, newUuidV7 } from '@lenserfight/envelope'
import {
  askSubject,
  CodedError,
  type Descriptor,
  hasCounter,
  inSubject,
  type KindName,
  kinds,
  outSubject,
} from '@lenserfight/schemas'
import { nextCounter } from './counter.ts'
import type { Signatory } from './fixtures.ts'
import type { Contradiction, Outcome } from './operation-book.ts'
import { createOperationFlow, type Pending } from './operation-flow.ts'
import { type ResendTiming, resendTiming } from './pacing.ts'

export type { Contradiction, Outcome } from './operation-book.ts'
export { meaningOf } from './operation-book.ts'
export type { ResendTiming } from './pacing.ts'

export interface ClientOptions {
  readonly descriptor: Descriptor
  /** The root-signed key list, canonical text; checked against the descriptor's root key. */
  readonly keyList: string
  /** A device or a session. */
  readonly signatory: Signatory
  readonly resend?: ResendTiming
  /** Envelopes in flight at most; 256 by default. */
  readonly window?: number
  readonly reconnect?: ReconnectTiming
  /** Waits for a gateway that is too busy to admit it, instead of throwing. */
  readonly waitForGateway?: boolean
}

/** What is said, without what the client adds: `aud`, for operations `op_id`, and a device's `counter`. */
export type Say = { readonly kind: KindName } & Readonly<Record<string, unknown>>

/** The one end of an operation. */
export interface Settled {
  readonly kid: string
  readonly kind: KindName
  /** `op_id`; of what is no operation, an id of the client's own. */
  readonly id: string
  readonly outcome: Outcome
  /** Of every attempt, in order. */
  readonly digests: readonly string[]
}

/** A thin client of the protocol: no daemon, no outbox on disk, and nothing else left out. */
export interface DeviceClient {
  readonly signatory: Signatory
  /** Says it until it has a final outcome; resolves with that, whatever it is. */
  readonly send: (say: Say) => Promise<Settled>
  /** Envelopes sent that nothing was heard of yet. */
  readonly inFlight: () => number
  /** Everything settled so far, in order. */
  readonly settled: readonly Settled[]
  /** Each time that the gateway told of something to pull. */
  readonly changes: readonly { readonly epoch: number; readonly seq: number }[]
  readonly contradictions: readonly Contradiction[]
  /** Outcome by digest, of every envelope that one was heard of. */
  readonly outcomes: ReadonlyMap<string, Outcome>
  readonly stats: () => ClientStats
  /** Connects anew, through the auth callout. */
  readonly reconnect: () => Promise<void>
  readonly close: () => Promise<void>
}

export interface ClientStats {
  readonly sent: number
  /** Times that an envelope was signed anew because nothing was heard. */
  readonly resent: number
  /** Outcomes heard of a digest that one was heard of before. */
  readonly repeated: number
  /** Outcomes of digests that this client never sent, and messages that no key of the gateway signed: both must stay 0. */
  readonly unknown: number
  readonly untrusted: number
  /** Refusals that did not end an operation, by code. */
  readonly refused: Readonly<Record<string, number>>
}

/**
 * Connects a device or session through the auth callout and speaks the protocol for it: each attempt signed anew, the
 * window, re-sends, next steps, receipts and answers checked against the pinned root's keys.
 * @throws CodedError `signer_untrusted` where the key list is not the root's, `connection_refused`, `gateway_unreachable`
 */
export const connectClient = async (options: ClientOptions): Promise<DeviceClient> => {
  const { descriptor, signatory } = options
  const { kid, lenser, keys } = signatory
  const bus = await connectEdge({
    ...{ url: descriptor.url, gatewayId: descriptor.gateway_id, kid, lenser, key: keys.privateKey },
    ...(options.reconnect === undefined ? {} : { reconnect: options.reconnect }),
    waitForGateway: options.waitForGateway ?? false,
  })
  return speakOver(bus, options)
}

/** The same over a connection that stands already, however it was admitted. */
export const speakOver = (bus: EdgeBus, options: ClientOptions): DeviceClient => {
  const { signatory, descriptor, resend = resendTiming, window } = options
  const list = verifyKeyList(options.keyList, descriptor)
  const { kid, lenser } = signatory
  const signer = createSigner({ kid, key: signatory.keys.privateKey })
  const settled: Settled[] = []
  const changes: { epoch: number; seq: number }[] = []
  let untrusted = 0

  const transmit = ({ kind, body }: Pending): string => {
    const counted = hasCounter(kind) ? { counter: nextCounter(), ...body } : body
    const { bytes, digest } = signer.sign({ body: counted })
    const door = { lenser, kid, kind }
    bus.publish(kinds[kind].door === 'in' ? inSubject(door) : askSubject(door), bytes)
    return Buffer.from(digest).toString('base64url')
  }
  const flow = createOperationFlow({ resend, window, isConnected: bus.isConnected, transmit })

  const read = (subject: string, bytes: Uint8Array): readonly Outcome[] => {
    const expected = { to: kid, now: Date.now() }
    if (subject === outSubject(lenser, kid, 'receipt')) {
      return verifyGatewayMessage(bytes, list, { kind: 'receipt', use: 'receipt', ...expected }).items
    }
    if (subject === outSubject(lenser, kid, 'change')) {
      const { epoch, seq } = verifyGatewayMessage(bytes, list, { kind: 'change', use: 'receipt', ...expected })
      changes.push({ epoch, seq })
      return []
    }
    return [verifyGatewayMessage(bytes, list, { kind: 'answer', use: 'answer', ...expected })]
  }
  bus.onMessage(({ subject, bytes }) => {
    try {
      for (const outcome of read(subject, bytes)) flow.hear(outcome)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      untrusted += 1
    }
  })
  bus.events.on('connected', flow.pump)

  const send = ({ kind, ...say }: Say): Promise<Settled> => {
    const id = typeof say.op_id === 'string' ? say.op_id : newUuidV7()
    const operation = kinds[kind].operation ? { op_id: id } : {}
    const body = { kind, aud: descriptor.gateway_id, ...operation, ...say }
    const { promise, resolve } = Promise.withResolvers<Settled>()
    const digests: string[] = []
    const onSettled = (outcome: Outcome): void => {
      const end: Settled = { kid, kind, id, outcome, digests }
      settled.push(end)
      resolve(end)
    }
    flow.begin({ id, kind, body, digests, onSettled, sentAt: 0, waits: 0 })
    return promise
  }
  const close = async (): Promise<void> => {
    flow.close()
    await bus.close()
  }
  const { inFlight, contradictions, outcomes } = flow
  const stats = (): ClientStats => ({ ...flow.stats(), untrusted })
  return {
    signatory,
    send,
    settled,
    changes,
    inFlight,
    contradictions,
    outcomes,
    stats,
    reconnect: bus.reconnect,
    close,
  }
}
