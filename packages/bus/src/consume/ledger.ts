import type { NatsConnection } from '@nats-io/transport-node'
import type { Delivery } from './types.ts'

export type Settlement = '+ACK' | '-NAK' | '+TERM'

/** A message received and not settled yet. */
export interface Held {
  readonly delivery: Delivery
  /** Sequence and store time: the same for every delivery of one message, and never of another. */
  readonly key: string
  /** Where it is acknowledged: of its latest delivery. */
  ackSubject: string
  /** It came from a consumer that is no more: an acknowledgement would hit another message. */
  orphan: boolean
  readonly since: number
}

/**
 * What is held and owed to the broker. After a loss, acknowledgements wait until the consumer is seen to be the same:
 * in a stream made anew the same sequence number is another message, which a late acknowledgement would remove unread.
 */
export interface Ledger {
  readonly size: () => number
  readonly bytes: () => number
  /** Takes a delivery in; undefined for another delivery of what is held already. */
  readonly take: (delivery: Delivery, ackSubject: string) => Held | undefined
  readonly settle: (held: Held, how: Settlement) => void
  /** Lets another worker have at once what was begun and given up. */
  readonly giveBack: (batch: readonly Held[]) => void
  /** Leaves a batch to the broker, which delivers it again in its own time. */
  readonly forget: (batch: readonly Held[]) => void
  /** Tells the broker that what is held for a while is being worked on. */
  readonly working: (olderThanMs: number) => void
  readonly close: () => void
  readonly open: (same: boolean) => void
}

export const createLedger = (nc: NatsConnection): Ledger => {
  const held = new Map<string, Held>()
  let owed: { held: Held; how: Settlement }[] = []
  let opened = false
  let bytes = 0

  const pay = ({ ackSubject, orphan }: Held, what: Settlement | '+WPI'): void => {
    if (!orphan && !nc.isClosed()) nc.publish(ackSubject, what)
  }
  /** Whether it was held. */
  const release = (item: Held): boolean => {
    if (!held.delete(item.key)) return false
    bytes -= item.delivery.data.length
    return true
  }
  const settle = (item: Held, how: Settlement): void => {
    if (!release(item)) return
    if (opened) pay(item, how)
    else owed.push({ held: item, how })
  }
  return {
    size: () => held.size,
    bytes: () => bytes,
    take: (delivery, ackSubject) => {
      const key = `${delivery.seq}.${delivery.stored}`
      const known = held.get(key)
      if (known !== undefined) {
        known.ackSubject = ackSubject
        known.orphan = false
        return undefined
      }
      const item: Held = { delivery, key, ackSubject, orphan: false, since: Date.now() }
      held.set(key, item)
      bytes += delivery.data.length
      return item
    },
    settle,
    giveBack: (batch) => {
      for (const item of batch) settle(item, '-NAK')
    },
    forget: (batch) => {
      for (const item of batch) release(item)
    },
    working: (olderThanMs) => {
      if (!opened) return
      const limit = Date.now() - olderThanMs
      for (const item of held.values()) if (item.since <= limit) pay(item, '+WPI')
    },
    close: () => {
      opened = false
    },
    open: (same) => {
      opened = true
      const due = owed
      owed = []
      if (same) for (const { held: item, how } of due) pay(item, how)
      else for (const item of held.values()) item.orphan = true
    },
  }
}
