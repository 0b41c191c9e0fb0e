import { limits, type ReceiptItem, reasonCodes, reasons } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import {
  type Circumstances,
  decideReceipt,
  defaultTiming,
  firstResendMs,
  type Progress,
  resendDelayMs,
  smooth,
  windowAfter,
} from './decide.ts'

const around: Circumstances & { isLatest: boolean } = {
  now: 1_000_000,
  smoothedMs: 100,
  random: 0.5,
  timing: defaultTiming,
  isLatest: true,
}
const sent: Progress = { state: 'sent', attempts: 1, refusals: 0 }
const digest = 'A'.repeat(43)
const ok: ReceiptItem = { digest, ok: true, result: { a: 1 } }
const refusal = (code: ReceiptItem['code'], more: Partial<ReceiptItem> = {}): ReceiptItem =>
  ({ digest, ok: false, code, ...more }) as ReceiptItem

test('a committed result ends an operation, whatever state it is in but done', (t) => {
  for (const state of ['waiting', 'sent', 'failed'] as const) {
    for (const isLatest of [true, false]) {
      t.deepEqual(decideReceipt({ ...sent, state }, ok, { ...around, isLatest }), {
        do: 'finish',
        state: 'done',
        outcome: { ok: true, result: { a: 1 } },
      })
    }
  }
  t.deepEqual(decideReceipt({ ...sent, state: 'done' }, ok, around), { do: 'ignore' })
})

test('every code does what the registry says: stop ends, resign and wait send again', (t) => {
  for (const code of reasonCodes) {
    const decision = decideReceipt(sent, refusal(code), around)
    t.is(decision.do, reasons[code].next === 'stop' ? 'finish' : 'again', code)
    if (decision.do === 'finish') t.deepEqual([decision.state, decision.outcome.code], ['failed', code])
    if (decision.do === 'again') t.true(decision.at > around.now)
  }
})

test('a refusal of an older attempt says nothing unless it is final', (t) => {
  const older = { ...around, isLatest: false }
  t.is(decideReceipt(sent, refusal('nonce_replay'), older).do, 'ignore')
  t.is(decideReceipt(sent, refusal('unavailable'), older).do, 'ignore')
  t.is(decideReceipt(sent, refusal('unknown_run'), older).do, 'finish')
})

test('no refusal is taken for an operation that ended', (t) => {
  for (const state of ['done', 'failed'] as const) {
    for (const code of ['unknown_run', 'nonce_replay', 'unavailable'] as const) {
      t.is(decideReceipt({ ...sent, state }, refusal(code), around).do, 'ignore')
    }
  }
})

test('a refusal that a new signature cures is sent again soon, and less soon each time', (t) => {
  const delays = [0, 1, 2, 3, 20].map((refusals) => {
    const decision = decideReceipt({ ...sent, refusals }, refusal('iat_window'), around)
    return decision.do === 'again' ? decision.at - around.now : Number.NaN
  })
  t.true((delays[0] as number) < 1000)
  t.deepEqual(
    delays,
    [...delays].sort((a, b) => a - b),
  )
  t.true((delays.at(-1) as number) <= limits.resendCeilingSeconds * 1000)
})

test('what the gateway asks to wait is waited, and counts as pressure', (t) => {
  const decision = decideReceipt(sent, refusal('rate_limited', { retry_after: 900 }), around)
  t.deepEqual(decision, { do: 'again', at: around.now + 900_000, code: 'rate_limited', pressure: true })
  const state = decideReceipt(sent, refusal('device_unhealthy'), around)
  t.is(state.do === 'again' && state.pressure, false)
})

test('a refusal without a code, and one with an incident, are kept as they came', (t) => {
  const without = decideReceipt(sent, refusal(undefined), around)
  t.is(without.do === 'again' && without.code, 'internal_error')
  const incident = '00000000-0000-4000-8000-000000000000'
  const failed = decideReceipt(sent, refusal('unknown_run', { detail: 'x', incident_id: incident }), around)
  t.deepEqual(failed.do === 'finish' && failed.outcome, {
    ok: false,
    code: 'unknown_run',
    detail: 'x',
    incident_id: incident,
  })
})

test('the first re-send comes after max(10 s, 4 × the smoothed receipt time), then doubles with jitter to 5 minutes', (t) => {
  t.is(firstResendMs({ smoothedMs: undefined, timing: defaultTiming }), 10_000)
  t.is(firstResendMs({ smoothedMs: 4_000, timing: defaultTiming }), 16_000)
  t.is(firstResendMs({ smoothedMs: 1e9, timing: defaultTiming }), 300_000)
  t.is(resendDelayMs(1, { ...around, random: 0.99 }), 10_000)
  t.is(resendDelayMs(3, { ...around, random: 0 }), 10_000)
  t.is(resendDelayMs(3, { ...around, random: 1 }), 40_000)
  const anywhere = fc.record({
    attempt: fc.nat({ max: 2_000 }),
    smoothedMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    random: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  fc.assert(
    fc.property(anywhere, ({ attempt, smoothedMs, random }) => {
      const delay = resendDelayMs(attempt, { smoothedMs, random, timing: defaultTiming })
      return Number.isInteger(delay) && delay >= 10_000 && delay <= 300_000
    }),
  )
  t.pass()
})

test('the window is at most 256, halves on pressure, never closes and opens again one by one', (t) => {
  t.is(windowAfter(limits.inFlight, 'receipt'), limits.inFlight)
  t.is(windowAfter(256, 'pressure'), 128)
  t.is(windowAfter(1, 'pressure'), 1)
  t.is(windowAfter(128, 'receipt'), 129)
})

test('the smoothed receipt time follows its samples by an eighth', (t) => {
  t.is(smooth(undefined, 80), 80)
  t.is(smooth(80, 160), 90)
})
