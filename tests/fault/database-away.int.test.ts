import { setTimeout as sleep } from 'node:timers/promises'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { createFleet, createLoad, untilShare } from './_fleet.ts'
import { eventually, readReadiness } from './_health.ts'
import { readEquations, sideOf } from './equations.ts'

const awayMs = 30_000
const each = 128
const working = ['verifier', 'verifier-2', 'trust-evaluator', 'registrar', 'broker-auth', 'audit-chain']

test('PostgreSQL gone for 30 s under load: workers say not ready, hold their messages, go on by themselves; every equation holds', async (t) => {
  t.timeout(240_000)
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  // Longer than the outage: what is not sent again must be held by those who have it.
  const fleet = await createFleet(stack, { lensers: 4, devicesEach: 2, resend: { floorMs: 60_000, ceilingMs: 90_000 } })
  t.teardown(fleet.close)
  const pidsOf = () => working.map((name) => readReadiness(stack, name).then((readiness) => readiness?.pid))
  const pids = await Promise.all(pidsOf())

  const load = await createLoad(fleet, each)
  const starts = load.wave()
  await untilShare(starts, 0.1)
  await stack.postgres.stop()
  const goneAt = Date.now()
  t.log(`stopped PostgreSQL with ${fleet.inFlight()} in flight`)

  for (const name of working) {
    const isHolding = async () => (await readReadiness(stack, name))?.status === 503
    t.true(await eventually(isHolding, 15_000), `${name} says not ready`)
  }
  t.is((await readReadiness(stack, 'trust-evaluator'))?.state, 'holding')
  await sleep(goneAt + awayMs - Date.now())
  t.true(fleet.inFlight() > 0, 'something had to wait')
  await stack.postgres.restart()
  await Promise.all(starts)
  t.deepEqual(new Set(fleet.machines.map(({ client }) => client.stats().resent)), new Set([0]), 'all of it was held')
  await stack.whenReady(30_000)
  t.deepEqual(await Promise.all(pidsOf()), pids, 'nobody was restarted')

  await Promise.all(load.wave())
  const equations = await readEquations(stack, fleet, load.began())
  t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
})
