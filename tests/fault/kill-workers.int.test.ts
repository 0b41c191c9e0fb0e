import { setTimeout as sleep } from 'node:timers/promises'
import type { Worker } from '@lenserfight/local'
import type { Settled } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { bindRunner, countSettled, createFleet, createLoad, type Fleet, untilShare, waveMs } from './_fleet.ts'
import { createChance } from './_random.ts'
import { readEquations, sideOf } from './equations.ts'

/** Of each eager device in each wave, all in flight at once: eight devices, 2,048 envelopes. */
const each = 256
const size = { lensers: 4, devicesEach: 2 }
/** These never send again: what a killed worker held must come to its end by redelivery alone (law 3). */
const patientEach = 64
const patientSize = { lensers: 1, devicesEach: 2 }
const eager = { floorMs: 3000, ceilingMs: 15_000 }
const patient = { floorMs: 3_600_000, ceilingMs: 3_600_000 }

/** These have done their part of a wave before much of it is settled: they are killed while it is being sent. */
const earlyOnes = ['verifier', 'registrar'] as const
/** These when a share of it is settled; the one that most waits for twice, so that it happens in both kinds of wave. */
const lateOnes = ['trust-evaluator', 'trust-evaluator', 'broker-auth', 'provisioner', 'audit-chain'] as const

/** Kills a worker within a wave; some edges connect just then, since a dead broker-auth is nothing to those who stay. */
const kill = async (worker: Worker, { fleet, t }: Scene): Promise<void> => {
  // A wave is sent bit by bit, and a quick machine may have answered all that was sent so far.
  for (const end = Date.now() + 30_000; fleet.inFlight() === 0 && Date.now() < end; ) await sleep(1)
  const inFlight = fleet.inFlight()
  worker.send('SIGKILL')
  t.true(inFlight > 0, 'it was killed under load')
  t.log(`killed ${worker.name} with ${inFlight} in flight`)
  const [first, second] = fleet.machines
  await Promise.all([first, second].map((machine) => machine?.client.reconnect()))
}
interface Scene {
  readonly fleet: Fleet
  readonly t: ExecutionContext
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

test('AU-2, AU-4: kill -9 of any one worker under 2,000 envelopes in flight: one result each, no receipt contradicts, every equation holds', async (t) => {
  t.timeout(400_000)
  const chance = createChance()
  t.log(`LTG_TEST_SEED=${chance.seed}`)
  const { stack, main, once } = await start(t)
  const scene = { fleet: main.fleet, t }
  const early = chance.shuffled(earlyOnes.flatMap(stack.workers))
  for (const [number, last] of chance.shuffled(lateOnes.flatMap(stack.workers)).entries()) {
    const victims = [early[number], last].filter((worker) => worker !== undefined)
    const restarts = victims.map((worker) => worker.restarts)
    const binds = main.also(bindMeanwhile(main.fleet, number))
    const [wave, onceWave] = [main.wave(), once.wave()]
    await sleep(waveMs * (0.2 + 0.6 * chance.next()))
    for (const worker of victims.slice(0, -1)) await kill(worker, scene)
    await untilShare(wave, 0.3 * chance.next())
    await kill(last, scene)
    await Promise.all([...wave, ...binds])
    // Those who send once have nobody else to remind the gateway: ack_wait, and the worker's own return.
    const settled = countSettled(onceWave)
    for (const end = Date.now() + 60_000; settled() < onceWave.length && Date.now() < end; ) await sleep(50)
    t.is(settled(), onceWave.length, 'what the dead held was delivered again')
    await Promise.all(victims.map((worker) => worker.whenReady()))
    t.deepEqual(
      victims.map((worker) => worker.restarts),
      restarts.map((times) => times + 1),
    )
  }
  const total = (what: 'sent' | 'resent' | 'repeated'): number =>
    main.fleet.clients.reduce((sum, client) => sum + client.stats()[what], 0)
  t.log(`${total('sent')} envelopes sent, ${total('resent')} of them again; ${total('repeated')} heard of twice`)
  for (const { fleet, began } of [main, once]) {
    const equations = await readEquations(stack, fleet, began())
    t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
  }
})
