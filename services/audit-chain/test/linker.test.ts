import { setTimeout as sleep } from 'node:timers/promises'
import { createLogger, createState, InfrastructureError } from '@lenserfight/runtime'
import test from 'ava'
import { backOffMs } from '../src/back-off.ts'
import { startLinker } from '../src/linker.ts'
import { until } from './_worker.ts'

const logger = createLogger({ service: 'audit-chain', level: 'silent' })

test('full batches follow one another without a rest; then it looks again after the poll', async (t) => {
  const state = createState({ logger })
  const counts = [10, 10, 3, 0]
  const asked: number[] = []
  const start = Date.now()
  const times: number[] = []
  const linker = startLinker({
    link: async (limit) => {
      asked.push(limit)
      times.push(Date.now() - start)
      return counts.shift() ?? 0
    },
    ...{ state, logger, batch: 10, pollMs: 2000 },
  })
  await until(async () => asked.length >= 4)
  await linker.stop()
  t.deepEqual(asked.slice(0, 4), [10, 10, 10, 10])
  const [, , third = 0, fourth = 0] = times
  t.true(third < 2000)
  t.true(fourth - third >= 1999)
  t.is(linker.figures().linked, 23)
})

test('it consumes only after linking worked, holds when it does not, and goes on by itself', async (t) => {
  const state = createState({ logger })
  let broken = true
  const linker = startLinker({
    link: async () => {
      if (broken) throw new InfrastructureError('gone')
      return 0
    },
    ...{ state, logger, batch: 10, pollMs: 10 },
  })
  t.is(state.state(), 'starting')
  await until(async () => state.state() !== 'starting')
  t.is(state.state(), 'holding')
  broken = false
  await until(async () => state.state() === 'consuming')
  await linker.stop()
})

test('stopping finishes the batch in flight and begins no other', async (t) => {
  let finish = (_: number) => {}
  let calls = 0
  const linker = startLinker({
    link: () => {
      calls += 1
      return new Promise((done) => {
        finish = done
      })
    },
    ...{ state: createState({ logger }), logger, batch: 1, pollMs: 10 },
  })
  const stopped = linker.stop()
  const first = await Promise.race([stopped, sleep(50, 'still linking')])
  t.is(first as unknown, 'still linking')
  finish(1)
  await stopped
  t.is(calls, 1)
  t.is(linker.figures().linked, 1)
})

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
