import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from '@lenserfight/local'
import type { Settled } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { bindRunner, countSettled, createFleet, createLoad, type Fleet, untilShare, waveMs } from './_fleet.ts'
import { type Chance, createChance } from './_random.ts'
import { readEquations, sideOf } from './equations.ts'

/** Of each eager device in each wave, all in flight at once: eight devices, 2,048 envelopes. */
const each = 256
const size = { lensers: 4, devicesEach: 2 }
/** These never send again: what a killed worker held must come to its end by redelivery alone (law 3). */
const patientEach = 64
const patientSize = { lensers: 1, devicesEach: 2 }
const eager = { floorMs: 3000, ceilingMs: 15_000 }
const patient = { floorMs: 3_600_000, ceilingMs: 3_600_000 }

/** Some have done their part of a wave before much of it is settled: they are killed while it is being sent. */
const early: readonly string[] = ['verifier', 'verifier-2', 'registrar']

/** Kills a worker within a wave; some edges connect just then, since a dead broker-auth is nothing to those who stay. */
const killDuring = async (wave: readonly Promise<unknown>[], worker: Worker, { fleet, chance }: Scene) => {
  if (early.includes(worker.name)) await sleep(waveMs * (0.2 + 0.8 * chance.next()))
  else await untilShare(wave, 0.3 * chance.next())
  await sleep(20 * chance.next())
  const inFlight = fleet.inFlight()
  worker.send('SIGKILL')
  const [first, second] = fleet.machines
  await Promise.all([first, second].map((machine) => machine?.client.reconnect()))
  return inFlight
}
interface Scene {
  readonly fleet: Fleet
  readonly chance: Chance
}

/** What owners do meanwhile: each session binds runners, so that the registrar has operations in flight too. */
const bindMeanwhile = (fleet: Fleet, wave: number): Promise<Settled>[] =>
  fleet.sessions.flatMap((session, owner) =>
    Array.from({ length: 10 }, async (_, n) => {
      await sleep((waveMs * n) / 10)
      const machine = fleet.machines[owner * size.devicesEach + (n % size.devicesEach)]
      if (machine === undefined) throw new TypeError('no machine')
      return bindRunner(session, machine, `fault ${wave} ${n}`)
    }),
  )

const start = async (t: ExecutionContext) => {
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  const open = async (options: Parameters<typeof createFleet>[1], count: number) => {
    const fleet = await createFleet(stack, options)
    t.teardown(fleet.close)
    return createLoad(fleet, count)
  }
  const main = await open({ ...size, resend: eager }, each)
  const once = await open({ ...patientSize, resend: patient }, patientEach)
  return { stack, main, once }
}

test('kill -9 of any one worker under 2,000 envelopes in flight: one result each, no receipt contradicts, every equation holds (RP-1, AU-2, AU-4)', async (t) => {
  t.timeout(400_000)
  const chance = createChance()
  t.log(`LTG_TEST_SEED=${chance.seed}`)
  const { stack, main, once } = await start(t)
  const services = ['verifier', 'trust-evaluator', 'registrar', 'broker-auth', 'provisioner', 'audit-chain'] as const
  const victims = [...services.flatMap((service) => stack.workers(service)), ...stack.workers('trust-evaluator')]

  for (const [number, worker] of chance.shuffled(victims).entries()) {
    const { restarts } = worker
    const binds = main.also(bindMeanwhile(main.fleet, number))
    const [wave, onceWave] = [main.wave(), once.wave()]
    const inFlight = await killDuring(wave, worker, { fleet: main.fleet, chance })
    t.true(inFlight > 0, 'it was killed under load')
    t.log(`killed ${worker.name} with ${inFlight} in flight`)
    await Promise.all([...wave, ...binds])
    // Those who send once have nobody else to remind the gateway: ack_wait, and the worker's own return.
    const settled = countSettled(onceWave)
    for (const end = Date.now() + 30_000; settled() < onceWave.length && Date.now() < end; ) await sleep(50)
    t.is(settled(), onceWave.length, `what ${worker.name} held was delivered again`)
    await worker.whenReady()
    t.is(worker.restarts, restarts + 1)
  }
  for (const { fleet, began } of [main, once]) {
    const equations = await readEquations(stack, fleet, began())
    t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
  }
})
