import { createInbox, type Msg, type NatsConnection, type Subscription } from '@nats-io/transport-node'

export interface PullerOptions {
  readonly nc: NatsConnection
  readonly stream: string
  readonly consumer: string
  readonly inboxPrefix: string
  readonly heartbeatMs: number
  /** How many more messages there is room for, those asked for not counted. */
  readonly room: () => number
  /** Fewer than this are not worth asking for while others are under way. */
  readonly least: number
  readonly onMessage: (message: Msg) => void
  /** The broker fell silent, or says that the consumer is gone. */
  readonly onLost: (reason: string) => void
}

/** Asks for messages as there is room for them. The broker serves requests in order, so they are counted off in order. */
export interface Puller {
  /** Asks for as much as there is room for. */
  readonly fill: () => void
  readonly stop: () => void
}

/** Bytes that one request may bring; more than the largest message. */
const pullBytes = 8 * 1024 * 1024
const expiresMs = 20_000
const calmMs = 250

export const startPuller = (options: PullerOptions): Puller => {
  const { nc, stream, consumer, heartbeatMs, room, least, onMessage, onLost } = options
  const inbox = createInbox(options.inboxPrefix)
  const subject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`
  const ns = (ms: number): number => ms * 1_000_000
  const pulls = new Map<number, number>()
  let count = 0
  let stopped = false
  let heard = Date.now()
  let calm: NodeJS.Timeout | undefined

  const asked = (): number => {
    let sum = 0
    for (const left of pulls.values()) sum += left
    return sum
  }
  const fill = (): void => {
    if (stopped || calm !== undefined) return
    const batch = room() - asked()
    if (batch < 1 || (pulls.size > 0 && batch < least)) return
    count += 1
    pulls.set(count, batch)
    heard = Date.now()
    const request = { batch, max_bytes: pullBytes, expires: ns(expiresMs), idle_heartbeat: ns(heartbeatMs) }
    nc.publish(subject, JSON.stringify(request), { reply: `${inbox}.${count}` })
  }
  const countOff = (): void => {
    const [first] = pulls
    if (first === undefined) return
    const [id, left] = first
    if (left <= 1) pulls.delete(id)
    else pulls.set(id, left - 1)
  }
  /** Something is not as it should be: asking again at once would only repeat it. */
  const rest = (): void => {
    calm ??= setTimeout(() => {
      calm = undefined
      fill()
    }, calmMs)
  }
  /** A status ends its request, but for a heartbeat; that a request expired is nothing unusual. */
  const onStatus = (message: Msg, code: number): void => {
    if (code === 100) return
    pulls.delete(Number(message.subject.slice(inbox.length + 1)))
    const why = message.headers?.description ?? ''
    if (code === 404 || code === 408 || /max ?bytes/i.test(why)) fill()
    else if (code === 409 && /deleted|push based/i.test(why)) lose('consumer_deleted')
    else rest()
  }
  const subscription: Subscription = nc.subscribe(`${inbox}.*`, {
    callback: (error, message) => {
      if (stopped) return
      if (error) return lose('forbidden')
      heard = Date.now()
      // By the subject, never by a status in the headers: a publisher can write one of those himself.
      if (message.subject.startsWith(inbox)) return onStatus(message, message.headers?.code ?? 0)
      countOff()
      onMessage(message)
    },
  })
  const watch = setInterval(() => {
    if (pulls.size > 0 && Date.now() - heard > 2.5 * heartbeatMs) lose('silent')
    else fill()
  }, heartbeatMs)

  const stop = (): void => {
    stopped = true
    clearInterval(watch)
    clearTimeout(calm)
    if (!nc.isClosed()) subscription.unsubscribe()
  }
  const lose = (reason: string): void => {
    if (stopped) return
    stop()
    onLost(reason)
  }
  fill()
  return { fill, stop }
}
