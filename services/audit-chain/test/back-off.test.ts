import test from 'ava'
import { backOffMs } from '../src/back-off.ts'

test('attempts come further apart, up to five seconds, never all at once', (t) => {
  for (let failures = 1; failures < 40; failures += 1) {
    t.is(
      backOffMs(failures, () => 0),
      100,
    )
    t.true(backOffMs(failures, () => 0.999_999) <= 5_000)
  }
  t.true(backOffMs(10, () => 0.999) > 4_900)
  t.true(backOffMs(1, () => 0.999) <= 200)
})
