import { createLogger, startRepeating } from '@lenserfight/runtime'
import test from 'ava'
import { createStore } from '../src/commit.ts'

import { startTending } from '../src/tend-devices.ts'
import { createWorld, type Device, type World } from './_world.ts'
import { hours, tell, worthy } from './devices/_history.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const recorder = () => {
  const lines: Record<string, unknown>[] = []
  const destination = { write: (line: string) => lines.push(JSON.parse(line)) }
  return { lines, logger: createLogger({ service: 'trust-evaluator', level: 'info', destination }) }
}
const levelOf = async ({ id }: Device): Promise<string> => {
  const text = 'SELECT trust_level FROM devices.registered_devices WHERE id = $1'
  return (await world.one<{ trust_level: string }>(text, [id])).trust_level
}
const until = async (holds: () => Promise<boolean> | boolean): Promise<void> => {
  for (const end = Date.now() + 60_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error('waited 60 s')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

test.serial(
  'DH-3: the evaluator itself promotes and marks, in two replicas, through an outage of the database',
  async (t) => {
    const devices: Device[] = []
    for (let n = 0; n < 6; n += 1) {
      const device = await world.addDevice(await world.addLenser())
      await tell(world, device, n % 2 === 0 ? worthy : { heard: hours(25) })
      devices.push(device)
    }
    const store = createStore(world.evaluator)
    const { lines, logger } = recorder()
    const cut = world.connect(world.database.as('ltg_trust_evaluator'))
    t.teardown(() => cut.end())
    const giveBack = await world.takeAway()
    const outOfReach = createStore(cut)
    let tries = 0
    const promote = (limit: number): Promise<number> => {
      tries += 1
      return outOfReach.promote(limit)
    }
    const loops = [startTending({ store: { ...outOfReach, promote }, everyMs: 20, logger })]
    try {
      await until(() => tries > 2)
    } finally {
      await giveBack()
    }
    loops.push(startTending({ store, everyMs: 20, logger }))
    await until(async () => (await Promise.all(devices.map(levelOf))).every((level) => level !== 'approved'))
    await Promise.all(loops.map(({ stop }) => stop()))
    for (const [n, device] of devices.entries()) t.is(await levelOf(device), n % 2 === 0 ? 'trusted' : 'offline')
    const sum = (name: 'promoted' | 'offline') => loops.reduce((all, { figures }) => all + figures()[name], 0)
    t.deepEqual([sum('promoted'), sum('offline')], [3, 3], 'each once')
    t.deepEqual(
      lines.map(({ event, level }) => [event, level]),
      [['tending_failed', 'warn']],
      'an outage is one line',
    )
  },
)

test('a round that fails is tried further, each time later; one that succeeds is the end of that', async (t) => {
  const { lines, logger } = recorder()
  const at: number[] = []
  const round = async (): Promise<void> => {
    at.push(performance.now())
    if (at.length <= 4) throw new TypeError('a fault of ours')
  }
  const failure = { event: 'failed', message: 'x' }
  const { stop } = startRepeating({ everyMs: 20, round, failure, logger })
  await until(() => at.length >= 6)
  await stop()
  const rounds = at.length
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.is(at.length, rounds, 'stopped is stopped')
  const pauses = at.slice(1).map((time, n) => time - (at[n] as number))
  // Least pauses alone: how late a timer fires is the machine's business. A millisecond, since timers round.
  for (const [n, least] of [30, 60, 120, 240, 15].entries()) t.true((pauses[n] as number) >= least - 1, `pause ${n}`)
  t.deepEqual(
    lines.map(({ event, level }) => [event, level]),
    [['failed', 'error']],
  )
})
