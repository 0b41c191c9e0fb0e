import test from 'ava'
import { compare, largest } from './figures.ts'

test('a ratio is of all work over all time, and each round has its own', (t) => {
  const fast = [
    { count: 100, seconds: 1 },
    { count: 100, seconds: 3 },
  ]
  const slow = [
    { count: 50, seconds: 1 },
    { count: 50, seconds: 1 },
  ]
  const { ratio, round_ratios, measured_per_second, reference_per_second } = compare(fast, slow)
  t.is(measured_per_second, 50)
  t.is(reference_per_second, 50)
  t.is(ratio, 1)
  t.deepEqual(
    round_ratios.map((value) => value.toFixed(3)),
    ['2.000', '0.667'],
  )
})

test('rounds that are missing, empty or took no time give no ratio', (t) => {
  const good = { count: 1, seconds: 1 }
  t.throws(() => compare([], []), { instanceOf: TypeError })
  t.throws(() => compare([good], []), { instanceOf: TypeError })
  t.throws(() => compare([good], [{ count: 0, seconds: 1 }]), { instanceOf: TypeError })
  t.throws(() => compare([good], [{ count: 1, seconds: 0 }]), { instanceOf: TypeError })
})

test('the largest parts come first, and nothing is lost of the others', (t) => {
  t.deepEqual(Object.entries(largest({ a: 2, b: 8, c: 1, d: 4 }, { count: 2, keep: 2 })), [
    ['b', 4],
    ['d', 2],
    ['others', 1.5],
  ])
  t.deepEqual(largest({ a: 2 }, { count: 1, keep: 2 }), { a: 2 })
})
