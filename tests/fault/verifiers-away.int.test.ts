import { setTimeout as sleep } from 'node:timers/promises'
import type { ResendTiming } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { readBroker } from './_broker.ts'
import { createFleet, createLoad, type Fleet } from './_fleet.ts'
import { readEquations, sideOf } from './equations.ts'

/** RP-1's window is 300 s: what waits longer than that must not have become stale. */
const awayMs = 305_000
const each = 128

const refusals = (fleet: Fleet) => fleet.machines.map(({ client }) => client.stats().refused)
const resent = (fleet: Fleet) => fleet.machines.map(({ client }) => client.stats().resent)

test('RP-1: all verifiers away for over 300 s with 1,000 envelopes stored: nothing is lost and nothing is stale, sent once or again and again', async (t) => {
  t.timeout(600_000)
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  const open = async (resend: ResendTiming) => {
    const fleet = await createFleet(stack, { lensers: 2, devicesEach: 4, resend })
    t.teardown(fleet.close)
    return createLoad(fleet, each)
  }
  // Those who send once show that the stored message itself is still good after all that time.
  const once = await open({ floorMs: 3_600_000, ceilingMs: 3_600_000 })
  // Those who send again as edges do have each operation in the stream several times over.
  const again = await open({ floorMs: 10_000, ceilingMs: 120_000 })

  const verifiers = stack.workers('verifier')
  await Promise.all(verifiers.map((verifier) => verifier.stop()))
  const starts = [...once.wave(), ...again.wave()]
  await sleep(awayMs)
  const stored = (await readBroker(stack)).messages.LTG_INGRESS ?? 0
  t.log(`${stored} envelopes stored after ${awayMs / 1000} s`)
  t.true(stored > starts.length, 'some are in the stream more than once')
  await Promise.all(verifiers.map((verifier) => verifier.start()))
  await Promise.all(starts)

  for (const load of [once, again]) {
    // The last one is five minutes old.
    await load.heartbeat()
    await Promise.all(load.wave())
    t.deepEqual(refusals(load.fleet), Array(8).fill({}), 'no iat_window, no refusal at all')
    const equations = await readEquations(stack, load.fleet, load.began())
    t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
  }
  t.deepEqual(resent(once.fleet), Array(8).fill(0), 'they sent everything once')
})
