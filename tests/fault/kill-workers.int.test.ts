import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from '@lenserfight/local'
import type { Settled } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import {
  attest,
  bindRunner,
  countSettled,
  createFleet,
  type Fleet,
  fromEach,
  type Permit,
  sendHeartbeat,
  startRun,
} from './_fleet.ts'
import { type Chance, createChance } from './_random.ts'
import { readEquations, sideOf } from './equations.ts'

/** Of each device in each wave, all in flight at once: eight devices, 2,048 envelopes. */
const each = 256
const lensers = 4
const devicesEach = 2

interface Kill {
  readonly worker: Worker
  /** When so much of a wave is settled … */
  readonly share: number
  /** … and this much later. */
  readonly delayMs: number
}

const planKills = (workers: readonly Worker[], chance: Chance): Kill[] =>
  chance
    .shuffled(workers)
    .map((worker) => ({ worker, share: 0.5 * chance.next(), delayMs: Math.floor(30 * chance.next()) }))

/** Kills a worker within a wave; some edges connect just then, since a dead broker-auth is nothing to those who stay. */
const killDuring = async (wave: readonly Promise<unknown>[], { worker, share, delayMs }: Kill, fleet: Fleet) => {
  const settled = countSettled(wave)
  while (settled() < share * wave.length) await sleep(2)
  await sleep(delayMs)
  worker.send('SIGKILL')
  const [first, second] = fleet.machines
  await Promise.all([first, second].map((machine) => machine?.client.reconnect()))
  return wave.length - settled()
}

/** What owners do meanwhile: each session binds runners, so that the registrar has operations in flight too. */
const bindMeanwhile = (fleet: Fleet, wave: number): Promise<Settled>[] =>
  fleet.sessions.flatMap((session, owner) =>
    Array.from({ length: 10 }, (_, n) => {
      const machine = fleet.machines[owner * devicesEach + (n % devicesEach)]
      if (machine === undefined) throw new TypeError('no machine')
      return bindRunner(session, machine, `fault ${wave} ${n}`)
    }),
  )

const start = async (t: ExecutionContext) => {
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  const fleet = await createFleet(stack, { lensers, devicesEach, resend: { floorMs: 1500, ceilingMs: 15_000 } })
  t.teardown(fleet.close)
  return { stack, fleet }
}

test('kill -9 of any one worker under 2,000 envelopes in flight: one result each, no receipt contradicts, every equation holds (RP-1, AU-2, AU-4)', async (t) => {
  t.timeout(300_000)
  const chance = createChance()
  t.log(`LTG_TEST_SEED=${chance.seed}`)
  const { stack, fleet } = await start(t)
  const workers = ['verifier', 'trust-evaluator', 'registrar', 'broker-auth', 'provisioner', 'audit-chain'] as const
  const victims = [...workers.flatMap((service) => stack.workers(service)), ...stack.workers('trust-evaluator')]
  const kills = planKills(victims, chance)
  let began = 0
  const run = async <T>(wave: Promise<T>[], kill: Kill, number: number): Promise<T[]> => {
    const binds = bindMeanwhile(fleet, number)
    began += wave.length + binds.length
    const restarts = kill.worker.restarts
    const left = await killDuring(wave, kill, fleet)
    const ends = await Promise.all(wave)
    await Promise.all(binds)
    await kill.worker.whenReady()
    t.is(kill.worker.restarts, restarts + 1)
    t.true(left > 0, 'it was killed under load')
    t.log(`killed ${kill.worker.name} with ${left} of ${wave.length} in flight`)
    return ends
  }

  began += fleet.machines.length
  await Promise.all(fleet.machines.map(sendHeartbeat))
  let permits: Permit[] = []
  for (const [number, kill] of kills.entries()) {
    if (permits.length === 0) permits = await run(fromEach(fleet.machines, each, startRun), kill, number)
    else {
      await run(permits.map(attest), kill, number)
      permits = []
    }
  }
  const equations = await readEquations(stack, fleet, began)
  t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
})
