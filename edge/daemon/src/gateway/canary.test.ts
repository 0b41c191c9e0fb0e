import type { ReceiptItem } from '@lenserfight/schemas'
import test from 'ava'
import { createCanary } from './canary.ts'

const times = { stored_at_ms: 1, claimed_at_ms: 2, applied_at_ms: 3 }
const { signal } = new AbortController()

/** A client that remembers what it signed, under the digests d0, d1, …. */
const clientOf = () => {
  const bodies: object[] = []
  const published: string[] = []
  return {
    bodies,
    published,
    sign: (_kind: string, body: object) => {
      bodies.push(body)
      return { digest: `d${bodies.length - 1}`, bytes: new Uint8Array() }
    },
    publish: (kind: string) => {
      published.push(kind)
    },
  }
}
const item = (digest: string, more: Partial<ReceiptItem> = {}): ReceiptItem =>
  ({ digest, ok: true, result: times, ...more }) as ReceiptItem

test('a canary resolves with its own receipt’s times, and when it left and came back', async (t) => {
  const canary = createCanary(() => 1_000)
  const client = clientOf()
  canary.attach(client)
  const [first, second] = [canary.send(5_000, signal), canary.send(5_000, signal)]
  canary.receive([item('d1', { result: { ...times, applied_at_ms: 9 } }), item('d0'), item('other')], 'trust-evaluator')
  t.like(await first, { ...times, sent_at: 1_000 })
  t.like(await second, { applied_at_ms: 9 })
  t.true(((await first).received_at as number) >= 1_000)
  t.deepEqual(client.bodies, [{ sent_at: 1_000 }, { sent_at: 1_000 }])
})

test('only its applier can say that a canary came through; the verifier may refuse it', async (t) => {
  const canary = createCanary()
  canary.attach(clientOf())
  const sent = canary.send(40, signal)
  canary.receive([item('d0')], 'verifier')
  canary.receive([item('d0')], 'registrar')
  await t.throwsAsync(sent, { code: 'answer_timeout' })
  const refused = canary.send(5_000, signal)
  canary.receive([item('d1', { ok: false, code: 'device_revoked' })], 'verifier')
  await t.throwsAsync(refused, { code: 'device_revoked' })
})

test('without a connection none is sent, and no more than a few wait at once', async (t) => {
  const canary = createCanary()
  await t.throwsAsync(canary.send(5_000, signal), { code: 'gateway_unreachable' })
  const client = clientOf()
  canary.attach(client)
  const ending = new AbortController()
  const waiting = Array.from({ length: 16 }, () => canary.send(60_000, ending.signal))
  await t.throwsAsync(canary.send(60_000, signal), { code: 'rate_limited' })
  ending.abort()
  for (const each of waiting) await t.throwsAsync(each, { code: 'answer_timeout' })
  t.is(client.published.length, 16)
  canary.detach()
  await t.throwsAsync(canary.send(5_000, signal), { code: 'gateway_unreachable' })
})
