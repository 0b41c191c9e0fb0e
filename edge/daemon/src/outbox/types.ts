import type { Logger } from '@lenserfight/runtime'
import type { KindName, ReasonCode, ReceiptItem } from '@lenserfight/schemas'
import type { Store } from '../store.ts'
import type { Timing } from './decide.ts'
import type { Operation } from './operations.ts'

/** What sends, while there is a connection that lets this device send. */
export interface Sender {
  /** Kinds that the device's state may send. */
  readonly kinds: readonly KindName[]
  /** Told how many are signed next. */
  readonly expect?: (count: number) => void
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
  /** How many operations may be open at once. */
  readonly capacity?: number
  /** Refuses a body that could never be sent, by throwing a CodedError. */
  readonly check?: (body: object) => void
  /** Told of each refusal that is not final: a device's state may have changed. */
  readonly onRefused?: (code: ReasonCode) => void
  /** Told why nothing could be sent just now: the disk does not take it. */
  readonly onUnable?: (code: ReasonCode) => void
  /** Told of each operation that a receipt ended, once that is on the disk. */
  readonly onEnded?: (operation: { opId: string; kind: KindName }) => void
}

/** What `lf gateway status` shows of the outbox. */
export interface OutboxStatus {
  readonly open: number
  /** Those of them whose result nobody waits for any more. */
  readonly unwanted: number
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
  /**
   * Nobody wants its result any more. One that was never sent is gone; any other may have taken effect, so it is sent until
   * its result is known, after those that are wanted.
   */
  readonly abandon: (opId: string) => void
  /** Abandons all open ones of a kind: whoever wanted them did so of a daemon that is no more. */
  readonly abandonAll: (kind: KindName) => void
  /** Forgets an operation that has ended, once what it ended in was made use of. */
  readonly forget: (opId: string) => void
  /** Starts sending; what awaits a receipt is soon sent again, since receipts are not kept for who is away. */
  readonly attach: (sender: Sender) => void
  readonly detach: () => void
  /** Takes the items of a receipt whose signature was verified, as far as the service that signed it may say that. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /** Ends all open operations, or all but one device's: nothing can be sent in the others' names any more. */
  readonly failAll: (code: ReasonCode, detail: string, exceptKid?: string) => number
  readonly status: () => OutboxStatus
  readonly close: () => void
}
