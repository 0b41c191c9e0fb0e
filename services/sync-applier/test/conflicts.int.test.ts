import type { AddressedReceipt } from '@lenserfight/bus'
import { join, type ObjectState, type Write } from '@lenserfight/sync'
import test from 'ava'
import { createMachine, createWorld, type Machine, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

interface Row {
  readonly id: string
  readonly object: string
  readonly path: string
  readonly sides: readonly Write[]
  readonly sides_digest: Buffer
  readonly base: { readonly value: unknown } | null
  readonly closed_at: Date | null
}
const body = 'step/s/body'
const flow = (object: string) => ({ class: 'workflow_definition', object })
const rowsOf = async (lenser: string): Promise<readonly Row[]> => (await world.conflicts(lenser)) as never
const valuesOf = ({ sides }: Row) => sides.map(({ value }) => value).toSorted()

/** Machines of one account that all hold what the first pushed. */
const pair = async (count = 2): Promise<{ lenser: string; machines: Machine[]; name: ReturnType<typeof flow> }> => {
  const name = flow('w')
  const first = await world.addMachine()
  const { lenser } = first.device
  await world.push(first, [first.set(name, { name: 'flow', [body]: 'base' })])
  const machines = [first]
  while (machines.length < count) {
    const machine = await world.addMachine(lenser)
    machine.absorb(name, first.state(name))
    machines.push(machine)
  }
  return { lenser, machines, name }
}

test('SC-3 rule 11: what no machine can decide becomes one row with both sides and their base, and goes when it is decided', async (t) => {
  const { lenser, machines, name } = await pair(3)
  const [one, two, three] = machines as [Machine, Machine, Machine]
  await world.push(one, [one.set(name, { [body]: 'mine' })])
  t.deepEqual(await rowsOf(lenser), [])
  const rig = world.createRig()
  await rig.handle([await world.sealPush(two.device, [two.set(name, { [body]: 'yours' })])])
  t.is(rig.figures().conflicts, 1)
  const [opened, ...others] = await rowsOf(lenser)
  if (opened === undefined) return t.fail()
  t.deepEqual(others, [])
  t.like(opened, { object: 'w', path: body, base: { value: 'base' }, closed_at: null })
  t.deepEqual(opened.sides, (await world.stored(lenser, name))?.paths[body] as never)
  t.deepEqual(valuesOf(opened), ['mine', 'yours'])

  await world.push(three, [three.set(name, { [body]: 'theirs' })])
  const [grown, ...more] = await rowsOf(lenser)
  t.deepEqual(more, [])
  t.like(grown, { id: opened.id, base: { value: 'base' }, closed_at: null })
  t.deepEqual(valuesOf(grown as Row), ['mine', 'theirs', 'yours'])
  t.notDeepEqual(grown?.sides_digest, opened.sides_digest)
  await world.push(one, [one.set(name, { [body]: 'mine again' })])
  t.deepEqual(valuesOf((await rowsOf(lenser))[0] as Row), ['mine again', 'theirs', 'yours'])
  await world.push(one, [one.set(name, { name: 'of another field' })])
  t.is((await rowsOf(lenser))[0]?.closed_at, null)

  for (const machine of [two, three]) one.absorb(name, machine.state(name))
  await world.push(one, [one.set(name, { [body]: 'decided' })])
  const [closed, ...none] = await rowsOf(lenser)
  t.deepEqual(none, [])
  t.true(closed?.closed_at instanceof Date)
  t.is(closed?.id, opened.id)

  // The next is another.
  two.absorb(name, one.state(name))
  await world.push(one, [one.set(name, { [body]: 'a' })])
  await world.push(two, [two.set(name, { [body]: 'b' })])
  const both = await rowsOf(lenser)
  t.is(both.length, 2)
  t.like(both[1], { base: { value: 'decided' }, closed_at: null })
})

test('SC-3 rule 4: equal values are no conflict, nor is a field that the clock rule reads; a delete beside an edit is', async (t) => {
  const { lenser, machines, name } = await pair()
  const [one, two] = machines as [Machine, Machine]
  await world.push(one, [one.set(name, { name: 'a', [body]: 'same' })])
  await world.push(two, [two.set(name, { name: 'b', [body]: 'same' })])
  t.deepEqual(await rowsOf(lenser), [])
  for (const machine of machines) machine.absorb(name, (await world.stored(lenser, name)) as ObjectState)
  await world.push(one, [one.write(name, 'delete')])
  await world.push(two, [two.set(name, { name: 'c' })])
  const [row] = await rowsOf(lenser)
  t.like(row, { path: '$life', base: { value: true } })
  t.deepEqual(valuesOf(row as Row), [null, true])
})

test('SC-3: the base is the newest state that every side has seen; where there is none, none', async (t) => {
  const one = await world.addMachine()
  const { lenser } = one.device
  const two = await world.addMachine(lenser)
  const name = flow('w')
  for (const value of ['v1', 'v2', 'v3', 'v4', 'v5', 'v6']) {
    await world.push(one, [one.set(name, { [body]: value })])
    if (value === 'v3') two.absorb(name, one.state(name))
  }
  await world.push(two, [two.set(name, { [body]: 'theirs' })])
  t.like((await rowsOf(lenser))[0], { base: { value: 'v3' } })
  // Made on both machines at once: they have nothing in common.
  const made = flow('made')
  await world.push(one, [one.set(made, { [body]: 'x' })])
  await world.push(two, [two.set(made, { [body]: 'y' })])
  t.is((await rowsOf(lenser)).find(({ object }) => object === 'made')?.base, null)
})

test('SC-3 rule 9: one device’s two pasts become a conflict, of a field that the clock rule reads too', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const name = { class: 'agent_config', object: 'a' }
  await world.push(machine, [machine.set(name, { name: 'base' })])
  const restored = createMachine(machine.device, 2)
  restored.absorb(name, machine.state(name))
  await world.push(machine, [machine.set(name, { name: 'before' })])
  t.like((await world.push(restored, [restored.set(name, { name: 'after' })]))[0], { status: 'applied' })
  const [row] = await rowsOf(lenser)
  t.like(row, { path: 'name', base: { value: 'base' } })
  t.deepEqual(valuesOf(row as Row), ['after', 'before'])
})

test('SC-3: two machines at one moment open one conflict', async (t) => {
  const { lenser, machines, name } = await pair()
  const [one, two] = machines as [Machine, Machine]
  const items = await Promise.all([
    world.sealPush(one.device, [one.set(name, { [body]: 'mine' })]),
    world.sealPush(two.device, [two.set(name, { [body]: 'yours' })]),
  ])
  await Promise.all(items.map((item) => world.createRig().handle([item])))
  const rows = await rowsOf(lenser)
  t.is(rows.length, 1)
  t.deepEqual(valuesOf(rows[0] as Row), ['mine', 'yours'])
})

/** As many pushers at once, each with a machine in every account. */
const [pushers, accounts, rounds] = [8, 3, 4]

test('rule 11: pushers at once over the same objects of several accounts wait for each other, and lose nothing', async (t) => {
  const lensers = await Promise.all(Array.from({ length: accounts }, world.addLenser))
  const names = ['a', 'b', 'c', 'd'].flatMap((object) => [flow(object), { class: 'agent_config', object }])
  const teams = await Promise.all(
    Array.from({ length: pushers }, () => Promise.all(lensers.map((lenser) => world.addMachine(lenser)))),
  )
  const receipts: AddressedReceipt[] = []
  const run = async (team: readonly Machine[], pusher: number): Promise<void> => {
    const rig = world.createRig()
    for (let round = 0; round < rounds; round += 1) {
      // Each in an order of its own.
      const turned = (list: readonly (typeof names)[number][]) =>
        list.map((_, n) => list[(n * (pusher % 2 ? 3 : 1) + pusher) % list.length] as (typeof names)[number])
      const items = await Promise.all(
        team.map((machine) =>
          world.sealPush(
            machine.device,
            turned(names).map((name) => machine.set(name, { name: `${machine.actor} ${round}` })),
          ),
        ),
      )
      await rig.handle(pusher % 2 ? items.toReversed() : items)
    }
    receipts.push(...rig.receipts)
  }
  await Promise.all(teams.map(run))

  t.is(receipts.length, pushers * accounts * rounds)
  const entries = receipts.flatMap(({ item }) => item.result?.entries as { status?: string }[])
  t.true(entries.every(({ status }) => status === 'applied'))
  for (const [n, lenser] of lensers.entries()) {
    for (const name of names) {
      const all = teams.map((team) => (team[n] as Machine).state(name)).reduce(join)
      t.deepEqual(await world.stored(lenser, name), all as never)
    }
    const { rows } = await world.owner.query('SELECT seq FROM devices.sync_changes WHERE lenser_id = $1 ORDER BY seq', [
      lenser,
    ])
    t.deepEqual(
      rows.map((row: { seq: string }) => Number(row.seq)),
      rows.map((_: unknown, index: number) => index + 1),
    )
  }
})
