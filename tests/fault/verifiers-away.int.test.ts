import { setTimeout as sleep } from 'node:timers/promises'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { readBroker } from './_broker.ts'
import { attest, createFleet, type Fleet, fromEach, sendHeartbeat, startRun } from './_fleet.ts'
import { readEquations, sideOf } from './equations.ts'

/** RP-1's window is 300 s: what waits longer than that must not have become stale. */
const awayMs = 305_000
const each = 128

const refusals = (fleet: Fleet) => fleet.machines.map(({ client }) => client.stats().refused)

test('RP-1: all verifiers away for over 300 s with 1,000 envelopes stored: nothing is lost and nothing is stale, sent once or again and again', async (t) => {
  t.timeout(600_000)
  const stack = await testStack({ replicas: { verifier: 2 } })
  t.teardown(stack.stop)
  const half = { lensers: 2, devicesEach: 4 }
  // Those who send once show that the stored message itself is still good after all that time.
  const patient = await createFleet(stack, { ...half, resend: { floorMs: 3_600_000, ceilingMs: 3_600_000 } })
  t.teardown(patient.close)
  // Those who send again as edges do have each operation in the stream several times over.
  const eager = await createFleet(stack, { ...half, resend: { floorMs: 10_000, ceilingMs: 120_000 } })
  t.teardown(eager.close)
  const fleets = [patient, eager]
  await Promise.all(fleets.flatMap(({ machines }) => machines.map(sendHeartbeat)))

  const verifiers = stack.workers('verifier')
  await Promise.all(verifiers.map((verifier) => verifier.stop()))
  const starts = fleets.map(({ machines }) => fromEach(machines, each, startRun))
  await sleep(awayMs)
  const stored = (await readBroker(stack)).messages.LTG_INGRESS ?? 0
  t.log(`${stored} envelopes stored after ${awayMs / 1000} s`)
  t.true(stored > 2 * 8 * each, 'some are in the stream more than once')
  await Promise.all(verifiers.map((verifier) => verifier.start()))

  for (const [index, fleet] of fleets.entries()) {
    const permits = await Promise.all(starts[index] ?? [])
    const attestations = permits.slice(0, 64).map(attest)
    await Promise.all(attestations)
    t.deepEqual(refusals(fleet), Array(8).fill({}), 'no iat_window, no refusal at all')
    const equations = await readEquations(stack, fleet, 8 + permits.length + attestations.length)
    t.deepEqual(sideOf(equations, 'left'), sideOf(equations, 'right'))
  }
  t.deepEqual(
    patient.machines.map(({ client }) => client.stats().resent),
    Array(8).fill(0),
    'the patient sent everything once',
  )
})
