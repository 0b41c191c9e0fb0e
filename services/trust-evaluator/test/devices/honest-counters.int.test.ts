import { limits } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { heartbeat } from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const window = limits.iatWindowSeconds
/** Seconds by which something is off, mostly by as much as RP-1 allows. */
const off = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(-window, window) },
  fc.integer({ min: -window, max: window }),
)

interface Envelope {
  readonly counter: number
  readonly iat: number
  readonly stored: number
}
/** Whether RP-1 lets it in. */
const isTimely = ({ iat, stored }: Envelope): boolean => Math.abs(iat - stored) <= window

/**
 * Applies what got in, in that order and in batches of that size, while old counters are settled, and all of it once more; how
 * many suspicions came of it.
 */
const suspectedOf = async (history: readonly Envelope[], order: readonly number[], size: number): Promise<number> => {
  const device = await world.addDevice(await world.addLenser())
  const accepted = history.filter(isTimely)
  const texts = await Promise.all(
    accepted.map(({ counter, iat, stored }) =>
      world.seal(device, heartbeat({ counter }), { stored: stored * 1000, iat }),
    ),
  )
  const shuffled = texts
    .map((text, n) => ({ text, place: order[n % order.length] ?? 0 }))
    .sort((a, b) => a.place - b.place)
    .map(({ text }) => text)
  const arrivals = [...shuffled, ...texts]
  for (let from = 0; from < arrivals.length; from += size) {
    await world.apply('heartbeat', arrivals.slice(from, from + size))
    await world.evaluator.query('SELECT devices.fn_settle_counters(1000)')
  }
  const { highest } = await world.one<{ highest: string | null }>(
    `SELECT max(counter) AS highest FROM (SELECT * FROM devices.counters UNION ALL SELECT * FROM devices.counter_floors) c
      WHERE device_id = $1`,
    [device.id],
  )
  const expected = accepted.length === 0 ? null : String(Math.max(...accepted.map(({ counter }) => counter)))
  if (highest !== expected) throw new TypeError(`counted up to ${highest}, not ${expected}`)
  const { rows } = await world.owner.query('SELECT FROM devices.fork_suspicions WHERE device_id = $1', [device.id])
  return rows.length
}
const orders = fc.array(fc.nat(1000), { minLength: 5, maxLength: 20 })
const sizes = fc.integer({ min: 1, max: 5 })
const fourHoursAgo = (): number => Math.floor(Date.now() / 1000) - 4 * 3600

test('the floor: whatever its clock within the window, the delays and the order, an honest device is never suspected', async (t) => {
  const pause = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 400 }))
  const one = fc.record({ pause, offset: off, late: off, gap: fc.integer({ min: 1, max: 300 }) })
  const counted = fc.assert(
    fc.asyncProperty(fc.array(one, { minLength: 2, maxLength: 10 }), orders, sizes, async (said, order, size) => {
      let [at, counter] = [fourHoursAgo(), 0]
      const history = said.map(({ pause, offset, late, gap }) => {
        at += pause
        counter += gap
        // Nothing is stored before it is sent.
        return { counter, iat: at + offset, stored: Math.max(at, at + offset + late) }
      })
      return (await suspectedOf(history, order, size)) === 0
    }),
    { numRuns: 100 },
  )
  await t.notThrowsAsync(counted)
})

test('the floor: nor where the broker lies about store times, as long as the device’s clock is not set back by over a minute', async (t) => {
  const step = fc.oneof(fc.constantFrom(-60, 0, 1), fc.integer({ min: -60, max: 300 }))
  const one = fc.record({ step, lie: off })
  const counted = fc.assert(
    fc.asyncProperty(fc.array(one, { minLength: 2, maxLength: 10 }), orders, sizes, async (said, order, size) => {
      let highest = fourHoursAgo()
      const history = said.map(({ step, lie }, n) => {
        const iat = highest + step
        highest = Math.max(highest, iat)
        return { counter: n + 1, iat, stored: iat + lie }
      })
      return (await suspectedOf(history, order, size)) === 0
    }),
    { numRuns: 100 },
  )
  await t.notThrowsAsync(counted)
})
