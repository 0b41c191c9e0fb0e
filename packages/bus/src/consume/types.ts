import type { Logger, WorkerState } from '@lenserfight/runtime'
import type { Bus } from '../connect-service.ts'

/** A message of a stream, as delivered. */
export interface Delivery {
  readonly subject: string
  readonly data: Uint8Array
  readonly stream: string
  readonly seq: number
  /** When the broker stored it: nanoseconds since 1970, as decimal digits. With `seq` it names the message for ever. */
  readonly stored: string
  /** 1 for the first delivery. */
  readonly deliveries: number
}

/** What became of an item: `done` covers rejections too; `dead` puts it aside with its cause. */
export type Disposition = { readonly done: true } | { readonly dead: unknown }
export const done: Disposition = { done: true }

/** Why and under which id an item was put aside. */
export interface Burial {
  readonly incidentId: string
  readonly cause: unknown
  readonly delivery: Delivery
}

export interface HandleContext {
  /** Aborted when the worker stops; what is in flight may still finish. */
  readonly signal: AbortSignal
}

export interface ConsumeOptions<Item> {
  readonly bus: Bus
  readonly stream: string
  readonly consumer: string
  /** The items of one message. A message that it throws on is put aside whole. */
  readonly decode: (delivery: Delivery) => readonly Item[]
  /**
   * Decides and commits a batch; says of each item, in order, what became of it. It must bear being called again with
   * items that it has committed before.
   * Throwing InfrastructureError holds the batch until it works; throwing anything else bisects it.
   */
  readonly handle: (items: readonly Item[], context: HandleContext) => Promise<readonly Disposition[]>
  /** Messages a batch at most, and how long the first of them waits for others. */
  readonly batch: { readonly maxMessages: number; readonly maxWaitMs: number }
  /** Batches under way at once; 1 by default. */
  readonly concurrency?: number
  /** Tells the sender (receipt `internal_error`) once an item is put aside; no item where `decode` threw. */
  readonly deadLetter?: (item: Item | undefined, burial: Burial) => Promise<void> | void
  /** The bytes put aside for an item; the whole message by default. */
  readonly deadData?: (item: Item) => Uint8Array | string
  readonly logger: Logger
  readonly onState?: (state: WorkerState, reason?: string) => void
  readonly timing?: Partial<ConsumeTiming>
}

/** Milliseconds. */
export interface ConsumeTiming {
  /** How often held messages are told to the broker as being worked on; well below its ack_wait. */
  readonly workingMs: number
  /** First and longest wait before an infrastructure failure is tried again. */
  readonly retryFloorMs: number
  readonly retryCeilingMs: number
  /** How often a missing stream or consumer is looked for. */
  readonly lookMs: number
  /** The broker's sign of life on an idle pull. */
  readonly heartbeatMs: number
}

/** A consumption under way. */
export interface Consumption {
  /** Stops pulling, gives back what was not begun, and finishes what is in flight. */
  readonly stop: () => Promise<void>
  readonly stats: () => ConsumeStats
}

export interface ConsumeStats {
  /** Messages received and not settled. */
  readonly held: number
  readonly batches: number
  readonly settled: number
  readonly dead: number
  /** How often work had to wait for infrastructure. */
  readonly holds: number
}
