import type { NatsConnection } from '@nats-io/transport-node'
import test from 'ava'
import { createLedger } from '../src/consume/ledger.ts'
import type { Delivery } from '../src/consume/types.ts'

const setUp = () => {
  const paid: string[] = []
  const nc = { isClosed: () => false, publish: (subject: string, what: string) => paid.push(`${subject} ${what}`) }
  return { paid, ledger: createLedger(nc as unknown as NatsConnection) }
}
const delivery = (seq: number, stored = '100'): Delivery => ({
  subject: 'ltg.v1.in.a.b.c',
  data: new Uint8Array(10),
  stream: 'LTG_INGRESS',
  seq,
  stored,
  deliveries: 1,
})

test('another delivery of what is held is no second message, and its acknowledgement goes to the latest', (t) => {
  const { paid, ledger } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), 'ack.1')
  t.is(ledger.take(delivery(1), 'ack.2'), undefined)
  t.deepEqual([ledger.size(), ledger.bytes()], [1, 10])
  if (held !== undefined) ledger.settle(held, '+ACK')
  t.deepEqual(paid, ['ack.2 +ACK'])
  t.deepEqual([ledger.size(), ledger.bytes()], [0, 0])
  if (held !== undefined) ledger.settle(held, '-NAK')
  t.is(paid.length, 1, 'settled once')
})

test('the same sequence with another store time is another message', (t) => {
  const { ledger } = setUp()
  ledger.take(delivery(1, '100'), 'old')
  t.not(ledger.take(delivery(1, '200'), 'new'), undefined)
  t.is(ledger.size(), 2)
})

test('what is settled while the tie is cut is paid when the consumer is seen to be the same', (t) => {
  const { paid, ledger } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), 'ack.1')
  ledger.close()
  if (held !== undefined) ledger.settle(held, '+ACK')
  ledger.working(0)
  t.deepEqual(paid, [])
  ledger.open(true)
  t.deepEqual(paid, ['ack.1 +ACK'])
})

test('nothing is paid for messages of a consumer that is no more, now or later', (t) => {
  const { paid, ledger } = setUp()
  ledger.open(true)
  const [first, second] = [ledger.take(delivery(1), 'ack.1'), ledger.take(delivery(2), 'ack.2')]
  ledger.close()
  if (first !== undefined) ledger.settle(first, '+ACK')
  ledger.open(false)
  ledger.working(0)
  if (second !== undefined) ledger.settle(second, '+ACK')
  t.deepEqual(paid, [])
  t.is(ledger.size(), 0)
})

test('what is held for a while is told to be worked on, and what is given back is asked for no longer', (t) => {
  const { paid, ledger } = setUp()
  ledger.open(true)
  const held = ledger.take(delivery(1), 'ack.1')
  ledger.working(60_000)
  t.deepEqual(paid, [])
  ledger.working(0)
  if (held !== undefined) ledger.giveBack([held])
  ledger.working(0)
  t.deepEqual(paid, ['ack.1 +WPI', 'ack.1 -NAK'])
})

test('what is forgotten is not answered for, and taken in when it comes again', (t) => {
  const { paid, ledger } = setUp()
  ledger.open(true)
  const first = ledger.take(delivery(1), 'ack.1')
  if (first !== undefined) ledger.forget([first])
  t.deepEqual([ledger.size(), ledger.bytes(), paid], [0, 0, []])
  t.not(ledger.take(delivery(1), 'ack.2'), undefined)
})
