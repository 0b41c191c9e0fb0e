import { randomUUID } from 'node:crypto'
import { codeOf, describeError, InfrastructureError } from '@lenserfight/runtime'
import { deadSubject, limits } from '@lenserfight/schemas'
import { headers } from '@nats-io/transport-node'
import type { ConsumeOptions, Delivery } from './types.ts'

/** What a dead letter's headers may take of a message. */
const headerBytes = 4096

/** As much of an item as fits beside its headers: one that fills a message by itself would never be put aside whole. */
const fitting = (data: Uint8Array | string): { bytes: Uint8Array; cutFrom?: number } => {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data
  const room = limits.brokerPayloadBytes - headerBytes
  return bytes.length <= room ? { bytes } : { bytes: bytes.subarray(0, room), cutFrom: bytes.length }
}

/**
 * Puts an item aside: the dead letter first, its acknowledgement awaited, then word to the sender.
 * Headers say whence and why (`Ltg-Incident`, `Ltg-Stream`, `Ltg-Sequence`, `Ltg-Subject`, `Ltg-Stored`, `Ltg-Code`,
 * `Ltg-Cause`); the payload is the item's bytes as they came, cut where they fill a message (`Ltg-Cut-From`: their length).
 * @throws InfrastructureError when it cannot be stored
 */
export const bury = async <Item>(
  options: ConsumeOptions<Item>,
  { item, delivery, cause }: { item: Item | undefined; delivery: Delivery; cause: unknown },
): Promise<void> => {
  const { bus, consumer, deadData, deadLetter, logger } = options
  const incidentId = randomUUID()
  const described = describeError(cause)
  const head = headers()
  head.set('Ltg-Incident', incidentId)
  head.set('Ltg-Stream', delivery.stream)
  head.set('Ltg-Sequence', String(delivery.seq))
  head.set('Ltg-Subject', delivery.subject)
  head.set('Ltg-Stored', delivery.stored)
  head.set('Ltg-Code', codeOf(cause))
  head.set('Ltg-Cause', JSON.stringify({ type: described.type, code: described.code }))
  const { bytes, cutFrom } = fitting(item === undefined || deadData === undefined ? delivery.data : deadData(item))
  if (cutFrom !== undefined) head.set('Ltg-Cut-From', String(cutFrom))
  await bus.publish(deadSubject(consumer), bytes, head)
  logger.error(
    { event: 'dead_letter', incidentId, stream: delivery.stream, seq: delivery.seq, err: cause },
    'put aside',
  )
  try {
    await deadLetter?.(item, { incidentId, cause, delivery })
  } catch (error) {
    if (error instanceof InfrastructureError) throw error
    logger.error({ event: 'dead_letter_untold', incidentId, err: error }, 'the sender could not be told')
  }
}
