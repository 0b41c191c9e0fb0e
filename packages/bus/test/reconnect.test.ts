import test from 'ava'
import fc from 'fast-check'
import { edgeReconnect, jitteredDelay, planReconnects } from '../src/reconnect.ts'

const timing = { floorMs: 500, firstCeilingMs: 4000, ceilingMs: 30_000 }

test('a delay lies between the floor and a ceiling that doubles up to its limit', (t) => {
  fc.assert(
    fc.property(fc.nat(80), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (attempt, random) => {
      const delay = jitteredDelay(timing, attempt, () => random)
      return delay >= 500 && delay <= Math.min(30_000, 4000 * 2 ** attempt)
    }),
  )
  t.is(
    jitteredDelay(timing, 0, () => 0),
    500,
  )
  t.is(Math.round(jitteredDelay(timing, 9, () => 0.9999999)), 30_000)
  t.deepEqual(edgeReconnect, timing)
})

/** The client's own loop: asks for a delay, sleeps what is left of it since its last dial, asks again. */
const dialTimes = (
  plan: ReturnType<typeof planReconnects>,
  clock: { now: number },
  lastDial: number,
  count: number,
) => {
  const dials: number[] = []
  let last = lastDial
  while (dials.length < count) {
    const wait = plan.delay()
    if (last + wait <= clock.now) {
      last = clock.now
      dials.push(last)
    } else clock.now += Math.min(wait, last + wait - clock.now)
  }
  return dials
}

test('the first connection is not delayed; a loss is, however long the connection stood', (t) => {
  const clock = { now: 1_000_000 }
  const plan = planReconnects(timing, () => clock.now)
  t.is(plan.delay(), 0)
  plan.connected()
  const dialed = clock.now
  clock.now += 3_600_000
  const [first = 0] = dialTimes(plan, clock, dialed, 1)
  const waited = first - 1_000_000 - 3_600_000
  t.true(waited >= 500 && waited <= 4001, String(waited))
})

test('each failure waits once, within its own ceiling, and success starts over', (t) => {
  const clock = { now: 0 }
  const plan = planReconnects(timing, () => clock.now)
  plan.delay()
  plan.connected()
  const dials = dialTimes(plan, clock, 0, 12)
  const gaps = dials.map((dial, index) => dial - (dials[index - 1] ?? 0))
  for (const [index, gap] of gaps.entries()) {
    t.true(gap >= 500 && gap <= Math.min(30_000, 4000 * 2 ** index) + 1, `${index}: ${gap}`)
  }
  t.true(
    gaps.slice(4).some((gap) => gap > 4000),
    'later gaps are longer',
  )
  plan.connected()
  const before = clock.now
  const [next = 0] = dialTimes(plan, clock, dials.at(-1) as number, 1)
  t.true(next - before <= 4001)
})

test('thousands that lose their broker in one moment come back spread', (t) => {
  const times = Array.from({ length: 5000 }, () => jitteredDelay(timing, 0))
  const busiest = Math.max(
    ...Array.from({ length: 40 }, (_, n) => times.filter((time) => Math.floor(time / 100) === n).length),
  )
  t.true(busiest < 250, `${busiest} in 100 ms`)
})

test('who leaves on purpose is back at once; where that fails, it waits like everybody', (t) => {
  const clock = { now: 1_000_000 }
  const plan = planReconnects(timing, () => clock.now)
  const [first = 0] = dialTimes(plan, clock, clock.now, 1)
  plan.connected()
  clock.now += 60_000
  plan.leaving()
  const left = clock.now
  const [again = 0, next = 0] = dialTimes(plan, clock, first, 2)
  t.is(again, left)
  t.true(next - again >= timing.floorMs, `${next - again} ms after one that failed`)
})
