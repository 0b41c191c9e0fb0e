import { setTimeout as sleep } from 'node:timers/promises'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { attest, countSettled, createFleet, fromEach, sendHeartbeat, startRun } from './_fleet.ts'
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

  await Promise.all(fleet.machines.map(sendHeartbeat))
  const starts = fromEach(fleet.machines, each, startRun)
  const settled = countSettled(starts)
  while (settled() < starts.length / 10) await sleep(2)
  await stack.postgres.stop()
  const goneAt = Date.now()
  t.log(`stopped PostgreSQL with ${starts.length - settled()} of ${starts.length} in flight`)

  for (const name of working) {
    const isHolding = async () => (await readReadiness(stack, name))?.status === 503
    t.true(await eventually(isHolding, 15_000), `${name} says not ready`)
  }
  t.is((await readReadiness(stack, 'trust-evaluator'))?.state, 'holding')
  await sleep(goneAt + awayMs - Date.now())
  t.true(settled() < starts.length, 'something had to wait')
  await stack.postgres.restart()
  const permits = await Promise.all(starts)
  await stack.whenReady(30_000)
  t.deepEqual(await Promise.all(pidsOf()), pids, 'nobody was restarted')

  const attestations = permits.map(attest)
  await Promise.all(attestations)
  const began = fleet.machines.length + starts.length + attestations.length
  const equations = await readEquations(stack, fleet, began)
  t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
})
