import type { Change } from '@lenserfight/bus'
import { createLogger } from '@lenserfight/runtime'
import { digestOf, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { startSequencing } from '../src/sequence.ts'
import { createStore } from '../src/store.ts'
import { startTending } from '../src/tend.ts'
import { createWorld, type Device, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const logger = createLogger({ service: 'sync-applier', level: 'silent' })
const deadlineMs = 60_000
/** Looks until it is so. */
const until = async <T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> => {
  for (const end = Date.now() + deadlineMs; Date.now() < end; ) {
    const found = await look()
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('it did not come to be so')
}
interface Row {
  readonly object: string
  readonly state: ObjectState
  readonly digest: string
}
const pull = async (device: Device, className: string, cursor = 0): Promise<{ upto: number; rows: readonly Row[] }> => {
  const body = { kind: 'sync_pull', epoch: 1, cursors: { [className]: cursor } } as const
  const report = { pending: 0, set_aside: 0, diverged: [] }
  const [told] = await world.apply([await world.seal(device, { ...body, report })])
  if (told?.ok !== true) throw new TypeError(`refused: ${told?.code}`)
  const { classes } = told.result as { classes: Record<string, never> }
  return classes[className] as never
}
const setBudget = (lenser: string, runs: number) =>
  world.owner.query(
    `INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, $2)
     ON CONFLICT (lenser_id) DO UPDATE SET daily_runs = $2`,
    [lenser, runs],
  )

test('rule 13: what the cloud decides is told of by itself, with the digest that machines compute, and they hear of it', async (t) => {
  const device = await world.addDevice()
  const notices: Change[] = []
  const sequencers = [1, 2].map(() =>
    startSequencing({
      ...{ store: createStore(world.applier), logger, everyMs: 50 },
      perCall: 2,
      sendNotice: (notice) => notices.push(notice),
    }),
  )
  try {
    for (const runs of [1, 2, 3]) await setBudget(device.lenser, runs)
    // From where it came to: asking from one place again gives the same rows again (SB-1), whatever came since.
    let cursor = 0
    const row = await until(async () => {
      const { rows, upto } = await pull(device, 'budget', cursor)
      cursor = upto
      return rows.find(({ state }) => JSON.stringify(state).includes('"daily_runs":3'))
    })
    t.is(row.object, 'budget')
    t.is(row.digest, digestOf(row.state))
    const heard = await until(() => notices.find(({ lenser }) => lenser === device.lenser))
    t.like(heard, { epoch: 1, to: [device.id] })
    await until(() => (sequencers.reduce((sum, { figures }) => sum + figures().sequenced, 0) >= 3 ? true : undefined))
  } finally {
    await Promise.all(sequencers.map(({ stop }) => stop()))
  }
})

test('a sequencer whose database fails goes on when it answers again, with fewer at a time', async (t) => {
  const asked: number[] = []
  const store = createStore(world.applier)
  const device = await world.addDevice()
  let failures = 2
  const sequencing = startSequencing({
    ...{ logger, everyMs: 50, perCall: 64, sendNotice: () => {} },
    store: {
      sequence: async (limit, digests) => {
        asked.push(limit)
        if (failures-- > 0) throw new Error('it failed')
        return store.sequence(limit, digests)
      },
    },
  })
  try {
    await setBudget(device.lenser, 1)
    await until(() => (asked.length >= 4 ? true : undefined))
    t.deepEqual(asked.slice(0, 4), [64, 32, 16, 32])
  } finally {
    await sequencing.stop()
  }
})

test('what every machine has is forgotten, and old edits are archived, by itself', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const name = { class: 'agent_config', object: 'one' }
  for (const text of ['a', 'b']) await world.push(machine, [machine.set(name, { name: text })])
  const { upto } = await pull(machine.device, name.class)
  await pull(machine.device, name.class, upto)
  await world.owner.query(
    `UPDATE devices.sync_heads SET compacted_at = now() - interval '2 hours' WHERE lenser_id = $1`,
    [lenser],
  )
  // Nobody may change an edit: written as it would have been then.
  await world.owner.query(
    `WITH old AS (DELETE FROM devices.sync_outbox WHERE lenser_id = $1 AND n = 1 RETURNING *)
     INSERT INTO devices.sync_outbox OVERRIDING SYSTEM VALUE
     SELECT id, lenser_id, device_id, object_class, object_id, op, payload, vclock, actor, n, link, digest,
            created_at - interval '31 days' FROM old`,
    [lenser],
  )
  const tending = startTending({ store: createStore(world.applier), everyMs: 50, logger })
  try {
    await until(() => (tending.figures().forgotten > 0 && tending.figures().archived > 0 ? true : undefined))
    t.is(await world.count('audit.events WHERE lenser_id = $1', [lenser]), 1)
    t.is(await world.count('devices.sync_changes WHERE lenser_id = $1', [lenser]), 1)
  } finally {
    await tending.stop()
  }
})

test('SB-3: a pull that a verifier let through and that is another’s is given nothing', async (t) => {
  const [mine, other] = [await world.addDevice(), await world.addDevice()]
  await setBudget(mine.lenser, 1)
  const body = {
    kind: 'sync_pull',
    epoch: 1,
    cursors: { budget: 0 },
    report: { pending: 0, set_aside: 0, diverged: [] },
  }
  const forged = await world.seal(mine, body as never, { signer: other.keys })
  const [told] = await world.apply([forged])
  t.like(told, { ok: false, code: 'signature_mismatch' })
  t.is(await world.count('devices.sync_watermarks WHERE device_id = $1', [mine.id]), 0)
})

test('SB-1: more pulls than one call answers are each answered, in their order', async (t) => {
  const devices = await Promise.all([...Array(40)].map(() => world.addDevice()))
  const report = { pending: 0, set_aside: 0, diverged: [] }
  const items = await Promise.all(
    devices.map((device) => world.seal(device, { kind: 'sync_pull', epoch: 1, cursors: { budget: 0 }, report })),
  )
  const told = await world.apply(items)
  t.deepEqual(
    told.map(({ digest, ok }) => [digest, ok]),
    items.map(({ digest }) => [digest, true]),
  )
})
