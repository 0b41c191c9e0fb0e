import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { createBatcher, createRateBound } from '../src/index.ts'

test('what comes while a batch is under way makes up the next, within bounds, in order', async (t) => {
  const batches: number[][] = []
  const gates: (() => void)[] = []
  const add = createBatcher<number, number>({
    maxBatch: 3,
    lanes: 1,
    work: async (batch) => {
      batches.push([...batch])
      await new Promise<void>((resolve) => gates.push(resolve))
      return batch.map((n) => n * 10)
    },
  })
  const results = [1, 2, 3, 4, 5].map((n) => add(n))
  await setImmediate()
  t.deepEqual(batches, [[1, 2, 3]])
  results.push(add(6))
  gates.shift()?.()
  await setImmediate()
  t.deepEqual(batches, [
    [1, 2, 3],
    [4, 5, 6],
  ])
  gates.shift()?.()
  t.deepEqual(await Promise.all(results), [10, 20, 30, 40, 50, 60])
})

test('a failed batch fails its own, and the next goes on', async (t) => {
  let fails = true
  const add = createBatcher<number, number>({
    maxBatch: 10,
    lanes: 1,
    work: async (batch) => {
      if (fails) throw new RangeError('no')
      return batch
    },
  })
  const outcomes = await Promise.allSettled([add(1), add(2)])
  t.true(outcomes.every(({ status }) => status === 'rejected'))
  fails = false
  t.is(await add(3), 3)
})

test('a bound lets a second’s worth through at once, and no more than its rate after', (t) => {
  const clock = { now: 0 }
  const may = createRateBound(5, () => clock.now)
  const passed = () => Array.from({ length: 20 }, () => may()).filter(Boolean).length
  t.is(passed(), 5)
  clock.now = 400
  t.is(passed(), 2)
  clock.now = 60_000
  t.is(passed(), 5)
})
