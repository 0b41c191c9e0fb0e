import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Bus, connectService, consume, done, verifyGatewayMessage, verifyKeyList } from '@lenserfight/bus'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { decodeVerifiedBatch, type ReceiptItem, type ServiceName, type VerifiedItem } from '@lenserfight/schemas'

const pollMs = 10

const connectAs = (stack: Stack, service: ServiceName, seed: string): Promise<Bus> => {
  const seed_file = join(stack.dir, `raw-${service}-${crypto.randomUUID()}.nkey`)
  writeFileSync(seed_file, seed, { mode: 0o600 })
  const logger = createLogger({ service, level: 'silent' })
  return connectService({ service, nats: { servers: [stack.nats.url], seed_file }, logger })
}

/** Connects as one of the stack's workers, with its own key. */
export const connectWorker = (stack: Stack, service: ServiceName): Promise<Bus> =>
  connectAs(stack, service, stack.busUser(service).seed)

const until = async <T>(look: () => T | undefined, what: () => string, timeoutMs: number): Promise<T> => {
  for (const end = Date.now() + timeoutMs; ; ) {
    const found = look()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what()}`)
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

/** An edge that nothing stands before: it says anything on any subject of the edge, and hears every receipt. */
export interface RawEdge {
  readonly publish: (subject: string, data: Uint8Array) => void
  /** Resolves when the broker has taken what was published. */
  readonly flush: () => Promise<void>
  /** Receipts by digest, as they came; only what a key of the gateway signed for the subject's key is here. */
  readonly receipts: ReadonlyMap<string, readonly ReceiptItem[]>
  /** Messages on receipt subjects that were not that. Must stay 0. */
  readonly untrusted: () => number
  /** The first receipt of a digest. */
  readonly receiptOf: (digest: string, timeoutMs?: number) => Promise<ReceiptItem>
  readonly close: () => Promise<void>
}

/** Opens one in a stack without auth callout (`callout: false`), where the verifier is the first wall. */
export const openRawEdge = async (stack: Stack): Promise<RawEdge> => {
  // What a worker connects with is a plain NKey; the edge's static user has one too.
  const { nc, close } = await connectAs(stack, 'verifier', stack.edgeUser.seed)
  const keys = verifyKeyList(stack.gatewayKeys.list, stack.descriptor)
  const receipts = new Map<string, ReceiptItem[]>()
  let untrusted = 0
  nc.subscribe('ltg.v1.out.*.*.receipt', {
    callback: (_, { subject, data }) => {
      const to = subject.split('.')[4] ?? ''
      try {
        const expected = { kind: 'receipt', use: 'receipt', to, now: Date.now() } as const
        for (const item of verifyGatewayMessage(data, keys, expected).items) {
          receipts.set(item.digest, [...(receipts.get(item.digest) ?? []), item])
        }
      } catch {
        untrusted += 1
      }
    },
  })
  await nc.flush()
  return {
    publish: (subject, data) => nc.publish(subject, data),
    flush: () => nc.flush(),
    receipts,
    untrusted: () => untrusted,
    receiptOf: (digest, timeoutMs = 60_000) =>
      until(
        () => receipts.get(digest)?.[0],
        () => `the receipt of ${digest}`,
        timeoutMs,
      ),
    close,
  }
}

/** What the verifier published, in the place of a worker that would apply it (run none of that). */
export interface VerifiedTap {
  readonly items: readonly VerifiedItem[]
  readonly subjects: ReadonlySet<string>
  /** Resolves when there are so many items. */
  readonly whenThere: (count: number, timeoutMs?: number) => Promise<readonly VerifiedItem[]>
  readonly close: () => Promise<void>
}

export const tapVerified = async (
  stack: Stack,
  service: 'registrar' | 'trust-evaluator' = 'trust-evaluator',
): Promise<VerifiedTap> => {
  const bus = await connectWorker(stack, service)
  const items: VerifiedItem[] = []
  const subjects = new Set<string>()
  const consumption = consume<VerifiedItem>({
    ...{ bus, stream: 'LTG_VERIFIED', consumer: service },
    decode: ({ subject, data }) => {
      subjects.add(subject)
      return decodeVerifiedBatch(Buffer.from(data).toString('utf8'))
    },
    handle: async (batch) => {
      items.push(...batch)
      return batch.map(() => done)
    },
    batch: { maxMessages: 64, maxWaitMs: 1 },
    logger: createLogger({ service, level: 'silent' }),
  })
  return {
    items,
    subjects,
    whenThere: (count, timeoutMs = 60_000) =>
      until(
        () => (items.length >= count ? items : undefined),
        () => `${count} verified items (${items.length} there)`,
        timeoutMs,
      ),
    close: async () => {
      await consumption.stop()
      await bus.close()
    },
  }
}
