import test from 'ava'
import { createBudget } from '../src/budget.ts'

test('a budget gives so many at once, then so many a second, and never saves up more', (t) => {
  let now = 0
  const budget = createBudget(10, () => now)
  const takeAll = (): number => {
    let taken = 0
    while (budget.take()) taken += 1
    return taken
  }
  t.is(takeAll(), 10)
  now += 500
  t.is(takeAll(), 5)
  now += 3_600_000
  t.is(takeAll(), 10)
  now -= 5000
  t.is(takeAll(), 0, 'a clock that goes back gives nothing')
})
