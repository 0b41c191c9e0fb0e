import type { Msg } from '@nats-io/transport-node'
import test from 'ava'
import { readDelivery } from '../src/consume/ack-subject.ts'

const message = (reply: string) => ({ subject: 'ltg.v1.in.a.b.c', reply, data: new Uint8Array(2) }) as unknown as Msg

test('sequence, store time and count of deliveries are read from both forms of the subject', (t) => {
  const expected = { stream: 'LTG_INGRESS', deliveries: 2, seq: 7, stored: '1795233310618435305' }
  t.like(readDelivery(message('$JS.ACK.LTG_INGRESS.verifier.2.7.5.1795233310618435305.0')), expected)
  t.like(readDelivery(message('$JS.ACK.hub.ABCDEF.LTG_INGRESS.verifier.2.7.5.1795233310618435305.0.token')), expected)
})

test('what did not come from a stream is a TypeError', (t) => {
  for (const reply of ['', '_INBOX.x.y', '$JS.ACK.LTG_INGRESS.verifier', '$JS.API.1.2.3.4.5.6.7']) {
    t.throws(() => readDelivery(message(reply)), { instanceOf: TypeError }, reply)
  }
})
