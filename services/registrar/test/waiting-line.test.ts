import test from 'ava'
import { createWaitingLine, type LineBounds, type Placed } from '../src/ask/waiting-line.ts'

const of = (kid: string | number, kind = 'list'): Placed => ({ subject: { kid: String(kid), kind } })
const setUp = (bounds: LineBounds = { at_once: 2, waiting: 3, per_kid: 2 }) => {
  const line = createWaitingLine<Placed>(bounds)
  /** Takes all that may be worked on now. */
  const takeAll = (): Placed[] => {
    const taken: Placed[] = []
    for (let one = line.take(); one !== undefined; one = line.take()) taken.push(one)
    return taken
  }
  return { ...line, takeAll }
}

test('requests are worked on in order, so many at once and no more', (t) => {
  const line = setUp({ at_once: 2, waiting: 4, per_kid: 2 })
  const asked = [1, 2, 3, 4].map((n) => of(n))
  t.deepEqual(
    asked.map((each) => line.enter(each)),
    [true, true, true, true],
  )
  t.deepEqual(line.takeAll(), asked.slice(0, 2))
  t.is(line.waiting(), 2)
  line.leave(of(1))
  t.deepEqual(line.takeAll(), [of(3)])
  line.leave(of(3))
  line.leave(of(2))
  t.deepEqual(line.takeAll(), [of(4)])
  t.false(line.isEmpty())
  line.leave(of(4))
  t.true(line.isEmpty())
})

test('rate_limited: what is over a bound is turned away, and nothing grows', (t) => {
  const line = setUp()
  const offer = (n: number): boolean => {
    const hasPlace = line.enter(of(n))
    line.takeAll()
    return hasPlace
  }
  const placed = Array.from({ length: 25 }, (_, n) => offer(n))
  t.deepEqual(placed, [...Array(5).fill(true), ...Array(20).fill(false)])
  t.is(line.waiting(), 3)
})

test('questions that may take long take an eighth of the desk, however many ask them, and the others pass by', (t) => {
  const line = setUp({ at_once: 16, waiting: 64, per_kid: 64 })
  const slow = (n: number): Placed => of(n % 3, 'audit_verify')
  const working: Placed[] = []
  let refused = 0
  for (let n = 0; n < 30; n++) {
    if (!line.enter(slow(n))) refused += 1
    working.push(...line.takeAll())
  }
  t.deepEqual([working.length, line.waiting(), refused], [2, 8, 20])
  for (let n = 0; n < 14; n++) t.true(line.enter(of(n)))
  working.push(...line.takeAll())
  t.is(working.length, 16)
  for (const done of working) {
    line.leave(done)
    working.push(...line.takeAll())
  }
  t.is(working.length, 24, 'all that was taken in is worked on')
  t.true(line.isEmpty())
})

test('rate_limited: one asker does not take the whole desk', (t) => {
  const line = setUp()
  t.deepEqual(
    [1, 1, 1, 2].map((kid) => line.enter(of(kid))),
    [true, true, false, true],
  )
  t.deepEqual(line.takeAll(), [of(1), of(1)])
  t.false(line.enter(of(1)), 'those that are worked on count')
  line.leave(of(1))
  t.true(line.enter(of(1)), 'its place is free again')
})
