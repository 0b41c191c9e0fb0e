import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { createGate, createLogger, createReadiness, createState } from '../src/index.ts'

const logger = createLogger({ service: 'test', level: 'silent' })

test('ready means both doors work: the consumer consumes and the database answers', (t) => {
  const state = createState({ logger })
  const readiness = createReadiness(state)
  readiness.setConsumer('connecting')
  t.is(state.state(), 'connecting')
  readiness.setDatabase(false)
  t.is(state.state(), 'connecting')
  readiness.setConsumer('consuming')
  t.is(state.state(), 'holding')
  readiness.setDatabase(true)
  t.is(state.state(), 'consuming')
  readiness.setConsumer('holding')
  t.is(state.state(), 'holding')
})

test('the gate closes when a probe fails, not when somebody suspects, and opens by itself', async (t) => {
  let alive = true
  const changes: boolean[] = []
  const probe = async (): Promise<void> => {
    if (!alive) throw new Error('gone')
  }
  const gate = createGate({ probe, onProbe: (isOpen) => changes.push(isOpen), logger, everyMs: 60_000, retryMs: 10 })
  t.teardown(gate.stop)
  await sleep(5)
  gate.suspect()
  await sleep(5)
  t.true(gate.isOpen())
  alive = false
  gate.suspect()
  await sleep(5)
  t.false(gate.isOpen())
  alive = true
  for (let i = 0; i < 100 && !gate.isOpen(); i++) await sleep(20)
  t.true(gate.isOpen())
  t.deepEqual(
    changes.filter((isOpen, place) => isOpen !== changes[place - 1]),
    [true, false, true],
  )
})
