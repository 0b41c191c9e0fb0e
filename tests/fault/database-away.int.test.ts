import { setTimeout as sleep } from 'node:timers/promises'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { createFleet, createLoad, untilShare } from './_fleet.ts'
import { eventually, readReadiness } from './_health.ts'
import { readEquations, sideOf } from './equations.ts'

const each = 250
const working = ['verifier', 'verifier-2', 'trust-evaluator', 'sync-applier', 'registrar', 'broker-auth', 'audit-chain']

interface Outage {
  readonly how: 'stop' | 'kill9'
  readonly awayMs: number
}

/** Settled once the first database is gone: the other's outage begins and ends while that one is away. */
const firstIsGone = Promise.withResolvers<void>()

const outage = test.macro(async (t, { how, awayMs }: Outage) => {
  t.timeout(240_000)
  if (how === 'kill9') await firstIsGone.promise
  else t.teardown(firstIsGone.resolve)
  // A test's database forgets its last commits when it is killed, unless asked not to.
  const stack = await testStack({ replicas: { verifier: 2 }, fsync: how === 'kill9' })
  t.teardown(stack.stop)
  // Longer than the outage: what is not sent again must be held by those who have it.
  const fleet = await createFleet(stack, { lensers: 4, devicesEach: 2, resend: { floorMs: 90_000, ceilingMs: 90_000 } })
  t.teardown(fleet.close)
  // One that is busy with what waited may be slow to answer; who it is, is what counts.
  const pidOf = async (name: string): Promise<number | undefined> => {
    let pid: number | undefined
    await eventually(async () => {
      pid = (await readReadiness(stack, name))?.pid
      return pid !== undefined
    }, 30_000)
    return pid
  }
  const pidsOf = () => Promise.all(working.map(pidOf))
  const pids = await pidsOf()

  const load = await createLoad(fleet, each)
  const starts = load.wave()
  await untilShare(starts, 0.2)
  await stack.postgres[how]()
  const goneAt = Date.now()
  t.log(`PostgreSQL went with ${fleet.inFlight()} in flight`)
  // However fast the machine was until now: from here on nothing can be done, so what is sent has to wait.
  const meanwhile = load.wave()
  for (const name of working) {
    const isNotReady = async () => (await readReadiness(stack, name))?.status === 503
    t.true(await eventually(isNotReady, 15_000), `${name} says not ready`)
  }
  t.is((await readReadiness(stack, 'trust-evaluator'))?.state, 'holding')
  if (how === 'stop') firstIsGone.resolve()
  // Nobody can be admitted now; whoever comes waits.
  const [owner] = fleet.sessions
  await owner?.reconnect()
  await sleep(Math.max(0, goneAt + awayMs - Date.now()))
  t.true(fleet.inFlight() > 0, 'something had to wait')

  await stack.postgres.restart()
  await Promise.all([...starts, ...meanwhile])
  t.deepEqual(new Set(fleet.clients.map((client) => client.stats().resent)), new Set([0]), 'all of it was held')
  await stack.whenReady(30_000)
  t.deepEqual(await pidsOf(), pids, 'nobody was restarted')
  await Promise.all([...load.wave(), ...load.also(fleet.sessions.map((session) => session.send({ kind: 'status' })))])
  const equations = await readEquations(stack, fleet, load.began())
  t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
})

test(
  'PostgreSQL gone for 30 s under load: workers say not ready, hold their messages, go on by themselves; every equation holds',
  outage,
  { how: 'stop', awayMs: 30_000 },
)
test('PostgreSQL killed in the midst of its transactions: the same', outage, { how: 'kill9', awayMs: 3000 })
