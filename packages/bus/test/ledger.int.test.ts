import { randomUUID } from 'node:crypto'
import type { NatsConnection } from '@nats-io/transport-node'
import test from 'ava'
import { createLedger } from '../src/consume/ledger.ts'
import type { Delivery } from '../src/consume/types.ts'
import { type Broker, startBroker } from './_broker.ts'

let broker: Broker
let nc: NatsConnection
test.before(async () => {
  broker = await startBroker()
  nc = await broker.edge()
})
test.after.always(() => broker?.stop())

/** A ledger that pays over a real connection, and what reached the broker. Subjects are named by what follows `ack`. */
const setUp = () => {
  const account = `ltg.v1.${randomUUID()}`
  const came: string[] = []
  nc.subscribe(`${account}.>`, {
    callback: (_, message) => void came.push(`${message.subject.slice(account.length + 1)} ${message.string()}`),
  })
  return {
    ledger: createLedger(nc),
    ack: (name: string | number): string => `${account}.ack.${name}`,
    paid: async (): Promise<string[]> => {
      await nc.flush()
      return came
    },
  }
}
const delivery = (seq: number, stored = '100'): Delivery => ({
  subject: 'ltg.v1.in.a.b.c',
  data: new Uint8Array(10),
  stream: 'LTG_INGRESS',
  seq,
  stored,
  deliveries: 1,
})

test('another delivery of what is held is no second message, and its acknowledgement goes to the latest', async (t) => {
  const { paid, ledger, ack } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), ack(1))
  t.is(ledger.take(delivery(1), ack(2)), undefined)
  t.deepEqual([ledger.size(), ledger.bytes()], [1, 10])
  if (held !== undefined) ledger.settle(held, '+ACK')
  t.deepEqual(await paid(), ['ack.2 +ACK'])
  t.deepEqual([ledger.size(), ledger.bytes()], [0, 0])
  if (held !== undefined) ledger.settle(held, '-NAK')
  t.is((await paid()).length, 1, 'settled once')
})

test('the same sequence with another store time is another message', (t) => {
  const { ledger, ack } = setUp()
  ledger.take(delivery(1, '100'), ack('old'))
  t.not(ledger.take(delivery(1, '200'), ack('new')), undefined)
  t.is(ledger.size(), 2)
})

test('what is settled while the tie is cut is paid when the consumer is seen to be the same', async (t) => {
  const { paid, ledger, ack } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), ack(1))
  ledger.close()
  if (held !== undefined) ledger.settle(held, '+ACK')
  ledger.working(0)
  t.deepEqual(await paid(), [])
  ledger.open(true)
  t.deepEqual(await paid(), ['ack.1 +ACK'])
})

test('nothing is paid for messages of a consumer that is no more, now or later', async (t) => {
  const { paid, ledger, ack } = setUp()
  ledger.open(true)
  const [first, second] = [ledger.take(delivery(1), ack(1)), ledger.take(delivery(2), ack(2))]
  ledger.close()
  if (first !== undefined) ledger.settle(first, '+ACK')
  ledger.open(false)
  ledger.working(0)
  if (second !== undefined) ledger.settle(second, '+ACK')
  t.deepEqual(await paid(), [])
  t.is(ledger.size(), 0)
})

test('what is held for a while is told to be worked on, and what is given back is asked for no longer', async (t) => {
  const { paid, ledger, ack } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), ack(1))
  ledger.working(60_000)
  t.deepEqual(await paid(), [])
  ledger.working(0)
  if (held !== undefined) ledger.giveBack([held])
  ledger.working(0)
  t.deepEqual(await paid(), ['ack.1 +WPI', 'ack.1 -NAK'])
})

test('what is forgotten is not answered for, and taken in when it comes again', async (t) => {
  const { paid, ledger, ack } = setUp()
  ledger.open(true)
  const first = ledger.take(delivery(1), ack(1))
  if (first !== undefined) ledger.forget([first])
  t.deepEqual([ledger.size(), ledger.bytes(), await paid()], [0, 0, []])
  t.not(ledger.take(delivery(1), ack(2)), undefined)
})

test('a connection that is closed is owed nothing more: what is settled then throws nothing', async (t) => {
  const closed = await broker.edge()
  const ledger = createLedger(closed)
  ledger.open(true)
  const held = ledger.take(delivery(1), 'ltg.v1.ack')
  await closed.close()
  ledger.working(0)
  if (held !== undefined) t.notThrows(() => ledger.settle(held, '+ACK'))
  t.is(ledger.size(), 0)
})
