import test, { type ExecutionContext } from 'ava'
import type { Outcome } from './operation-book.ts'
import { createOperationFlow, type Pending } from './operation-flow.ts'
import { createResendClock, createWindow } from './pacing.ts'

const fixedResend = { floorMs: 20, ceilingMs: 20 }

/** A flow whose envelopes go into a list; the digest of the n-th is `n`. */
const start = (t: ExecutionContext, { window = 256, resend = { floorMs: 60_000, ceilingMs: 60_000 } } = {}) => {
  const sent: string[] = []
  const line = { connected: true }
  const flow = createOperationFlow({
    ...{ resend, window },
    isConnected: () => line.connected,
    transmit: ({ id }) => String(sent.push(id)),
  })
  t.teardown(flow.close)
  const ends: Record<string, Outcome> = {}
  const begin = (id: string): Pending => {
    const onSettled = (outcome: Outcome): void => {
      t.false(id in ends, 'settled twice')
      ends[id] = outcome
    }
    const entry: Pending = { id, kind: 'run_start', body: {}, digests: [], onSettled, sentAt: 0, waits: 0 }
    flow.begin(entry)
    return entry
  }
  return { sent, line, flow, begin, ends }
}
const ok = (digest: string, result: Record<string, unknown> = {}): Outcome => ({ digest, ok: true, result })
const refusal = (digest: string, code: Outcome['code']): Outcome => ({ digest, ok: false, ...(code && { code }) })
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms))

test('an operation is settled once, and a receipt that says the same again is only counted', (t) => {
  const { begin, flow, ends } = start(t)
  begin('a')
  flow.hear(ok('1', { n: 1 }))
  flow.hear(ok('1', { n: 1 }))
  t.deepEqual(ends.a, ok('1', { n: 1 }))
  t.is(flow.stats().repeated, 1)
  t.deepEqual(flow.contradictions, [])
})

test('two receipts of one envelope that differ are a contradiction', (t) => {
  const { begin, flow } = start(t)
  begin('a')
  flow.hear(ok('1', { n: 1 }))
  flow.hear(ok('1', { n: 2 }))
  t.deepEqual(
    flow.contradictions.map(({ of, id }) => [of, id]),
    [['envelope', 'a']],
  )
})

test('two attempts of one operation that end differently are a contradiction; a passing refusal of one is none', async (t) => {
  const { begin, flow, sent } = start(t, { resend: fixedResend })
  begin('a')
  await pause(30)
  t.true(sent.length >= 2)
  flow.hear(ok('2', { n: 1 }))
  flow.hear(refusal('1', 'iat_window'))
  t.deepEqual(flow.contradictions, [])
  const { begin: beginOther, flow: other } = start(t, { resend: fixedResend })
  beginOther('b')
  await pause(30)
  other.hear(ok('1', { n: 1 }))
  other.hear(refusal('2', 'device_revoked'))
  t.deepEqual(
    other.contradictions.map(({ of }) => of),
    ['operation'],
  )
})

test('an outcome that nobody asked for is counted and settles nothing', (t) => {
  const { begin, flow, ends } = start(t)
  begin('a')
  flow.hear(ok('99'))
  t.is(flow.stats().unknown, 1)
  t.deepEqual(ends, {})
})

test('resign signs anew at once, wait after a while, stop never', async (t) => {
  const { begin, flow, sent, ends } = start(t)
  begin('a')
  flow.hear(refusal('1', 'claim_expired'))
  await pause(20)
  t.deepEqual(sent, ['a', 'a'])
  flow.hear(refusal('2', 'device_unhealthy'))
  await pause(20)
  t.is(sent.length, 2)
  begin('b')
  flow.hear(refusal('3', 'unknown_run'))
  t.is(ends.b?.code, 'unknown_run')
  t.deepEqual(flow.stats().refused, { claim_expired: 1, device_unhealthy: 1 })
})

test('no more than the window is in flight, and nothing is sent while the broker is gone', (t) => {
  const { begin, flow, sent, line } = start(t, { window: 2 })
  for (const id of ['a', 'b', 'c']) begin(id)
  t.deepEqual(sent, ['a', 'b'])
  line.connected = false
  flow.hear(ok('1'))
  t.deepEqual(sent, ['a', 'b'])
  line.connected = true
  flow.pump()
  t.deepEqual(sent, ['a', 'b', 'c'])
})

test('the window halves once in a while and comes back one by one', (t) => {
  let now = 0
  const window = createWindow(256, 1000, () => now)
  window.halve()
  window.halve()
  t.is(window.size(), 128)
  now = 1000
  window.halve()
  window.regain()
  t.is(window.size(), 65)
})

test('the first re-send waits max(floor, 4 × smoothed receipt time), later ones longer, none beyond the ceiling', (t) => {
  const clock = createResendClock({ floorMs: 100, ceilingMs: 1000 }, () => 1)
  t.deepEqual([1, 2, 3, 9].map(clock.delay), [100, 200, 400, 1000])
  clock.observe(50)
  t.is(clock.delay(1), 200)
})
