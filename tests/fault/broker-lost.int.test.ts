import { setTimeout as sleep } from 'node:timers/promises'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { createFleet, createLoad, untilShare } from './_fleet.ts'
import { createChance } from './_random.ts'
import { readEquations, sideOf } from './equations.ts'

/** Of each of eight devices, all in flight at once. */
const each = 250

test('a broker killed under load that comes back with an empty store: nothing lost, nothing twice, every equation holds (law 2)', async (t) => {
  t.timeout(240_000)
  const chance = createChance()
  t.log(`LTG_TEST_SEED=${chance.seed}`)
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  const resend = { floorMs: 1500, ceilingMs: 15_000 }
  const fleet = await createFleet(stack, { lensers: 4, devicesEach: 2, resend })
  t.teardown(fleet.close)
  /** Kills the broker at a random moment of a wave, and lets it be gone for a while. */
  const lose = async (wave: readonly Promise<unknown>[]): Promise<void> => {
    await untilShare(wave, 0.3 * chance.next())
    // A wave is sent bit by bit, and a quick machine may have answered all that was sent so far.
    while (fleet.inFlight() === 0) await sleep(1)
    const inFlight = fleet.inFlight()
    await stack.nats.kill9()
    t.true(inFlight > 0, 'it was killed under load')
    t.log(`killed the broker with ${inFlight} in flight`)
    await sleep(1000 * chance.next())
    await stack.nats.restart({ emptyStore: true })
    await Promise.all(wave)
  }

  const load = await createLoad(fleet, each)
  await lose(load.wave())
  await lose(load.wave())
  await stack.whenReady()
  const equations = await readEquations(stack, fleet, load.began())
  t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
})
