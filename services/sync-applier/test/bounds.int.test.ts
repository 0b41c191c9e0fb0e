import { canonicalize } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import {
  actorOf,
  type Conflict,
  conflictsOf,
  type Delta,
  entryOf,
  join,
  linkOf,
  type ObjectState,
  recovered,
} from '@lenserfight/sync'
import test from 'ava'
import fc from 'fast-check'
import { createMachine, createWorld, type Machine, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const flow = { class: 'workflow_definition', object: 'w' }
const body = 'step/s/body'
const codesOf = (said: Awaited<ReturnType<World['push']>>) => said.map(({ status, code }) => status ?? code)

/** Edits of one actor one after another, each with what it says that it has seen of others. */
const series = (
  machine: Machine,
  name: typeof flow,
  incarnation: number,
  edits: readonly { readonly seen?: Record<string, number>; readonly paths: Record<string, string> }[],
) => {
  const actor = actorOf(machine.device.id, incarnation)
  let prev: string | null = null
  return edits.map(({ seen = {}, paths }, index) => {
    const delta: Delta = {
      ...name,
      actor,
      clock: { ...seen, [actor]: index + 1 },
      paths: { $life: true, ...paths },
      prev,
    }
    prev = linkOf(delta)
    return entryOf(delta)
  })
}

test('rule 7: no device puts more than one write of an incarnation beside each other, whatever it says that it has seen', async (t) => {
  const machine = await world.addMachine()
  const helper = actorOf(machine.device.id, 2)
  const few = 20
  const steps = Array.from({ length: 2 * few }, () => ({ paths: { description: 'x' } }))
  await world.push(machine, series(machine, flow, 2, steps))
  // Each counts itself up and the other down.
  const chain = Array.from({ length: few }, (_, n) => ({
    seen: { [helper]: 2 * (few - n) - 1 },
    paths: { [body]: `${n}` },
  }))
  const said = codesOf(await world.push(machine, series(machine, flow, 1, chain)))
  t.deepEqual(said, ['applied', 'invalid_object', ...Array(few - 2).fill('out_of_order')])
  const state = await world.stored(machine.device.lenser, flow)
  t.is(state?.paths[body]?.length, 1)
})

test('object_too_large: no more writes stand beside each other at a path than may, nor incarnations of one device in a clock', async (t) => {
  const machine = await world.addMachine()
  const [second, third] = [await world.addMachine(machine.device.lenser), await world.addMachine(machine.device.lenser)]
  const incarnations = (of: Machine, count: number) =>
    Array.from({ length: count }, (_, n) =>
      series(of, flow, n + 1, [{ paths: { [body]: `${of.device.id} ${n}` } }]),
    ).flat()
  const most = limits.incarnationsPerObject
  t.deepEqual(codesOf(await world.push(machine, incarnations(machine, most + 1))), [
    ...Array(most).fill('applied'),
    'object_too_large',
  ])
  t.deepEqual(codesOf(await world.push(second, incarnations(second, most))), Array(most).fill('applied'))
  t.is(2 * most, limits.writesPerPath)
  t.deepEqual(codesOf(await world.push(third, incarnations(third, 1))), ['object_too_large'])
  // Who has seen them all writes over them.
  const state = (await world.stored(machine.device.lenser, flow)) as ObjectState
  const other = await world.addMachine(machine.device.lenser)
  other.absorb(flow, state)
  t.deepEqual(codesOf(await world.push(other, [other.set(flow, { [body]: 'decided' })])), ['applied'])
})

test('rules 3 and 14: what a machine recovers of an object is merged, whoever’s clock is how high', async (t) => {
  for (let round = 0; round < 4; round += 1) {
    const one = await world.addMachine()
    const { lenser } = one.device
    const two = await world.addMachine(lenser)
    await world.push(one, [one.set(flow, { name: 'flow', [body]: 'base' })])
    two.absorb(flow, one.state(flow))
    const mine = createMachine(one.device, 2)
    mine.absorb(flow, one.state(flow))
    mine.set(flow, { [body]: 'mine' })
    await world.push(two, [two.set(flow, { [body]: 'yours' }), two.set(flow, { name: 'other' })])
    const gateways = (await world.stored(lenser, flow)) as ObjectState
    const here = createMachine(one.device, 3)
    here.absorb(flow, join(mine.state(flow), gateways))
    here.set(flow, { description: 'd' })
    const deltas = recovered(flow, here.state(flow), gateways, actorOf(one.device.id, 5))
    t.is(deltas.length, 2)
    t.deepEqual(codesOf(await world.push(one, deltas.map(entryOf))), ['applied', 'applied'])
  }
})

test('rule 9: of an object made again under a name that was forgotten no number is said twice', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const name = { class: 'agent_config', object: 'again' }
  await world.push(machine, [machine.set(name, { name: 'one' }), machine.write(name, 'delete')])
  // As a purge leaves it.
  await world.owner.query('DELETE FROM devices.sync_objects WHERE lenser_id = $1', [lenser])
  const [fresh, later] = [createMachine(machine.device), createMachine(machine.device, 7)]
  const beside = { ...name, object: 'beside' }
  const entries = [fresh.set(name, { name: 'new' }), fresh.set(beside, { name: 'x' }), later.set(name, { name: 'new' })]
  t.deepEqual(codesOf(await world.push(machine, entries)), ['clock_reused', 'applied', 'applied'])
})

test('rate_limited: one push is merged into so much of what is stored, and the rest of it goes with the next', async (t) => {
  const machine = await world.addMachine()
  const { lenser } = machine.device
  const names = Array.from({ length: 30 }, (_, n) => ({ class: 'lens_draft', object: `o${n}` }))
  await world.push(
    machine,
    names.map((name) => machine.set(name, { name: 'x' })),
  )
  // Three writers' notes beside each other: 180 kB each, and next to nothing as they are compressed.
  const writers = [11, 12, 13].map((incarnation) => actorOf(machine.device.id, incarnation))
  await world.owner.query(
    `UPDATE devices.sync_objects SET state = state || jsonb_build_object(
       'clock', state -> 'clock' || (SELECT jsonb_object_agg(a, 1) FROM unnest($2::text[]) a),
       'paths', state -> 'paths' || jsonb_build_object('notes', (SELECT jsonb_agg(jsonb_build_object(
         'actor', a, 'clock', jsonb_build_object(a, 1), 'value', repeat('x', 60000)) ORDER BY a DESC) FROM unnest($2::text[]) a)))
      WHERE lenser_id = $1`,
    [lenser, writers],
  )
  const entries = names.map((name) => machine.set(name, { name: 'y' }))
  const said = codesOf(await world.push(machine, entries))
  t.deepEqual(said, [...Array(23).fill('applied'), ...Array(7).fill('rate_limited')])
  t.deepEqual(codesOf(await world.push(machine, entries.slice(23))), Array(7).fill('applied'))
})

const states = fc
  .array(
    fc.record({
      path: fc.constantFrom('$life', 'name', body, 'step/t/pos', 'version/1', `version/${'x'.repeat(65)}`),
      device: fc.nat({ max: 2 }),
      incarnation: fc.integer({ min: 1, max: 3 }),
      value: fc.constantFrom(null, true, 1, 1e-7, 'a', { b: 1, a: [1, 2] }, { a: [1, 2], b: 1 }, { a: [2, 1] }),
    }),
    { maxLength: 24 },
  )
  .map((writes): ObjectState => {
    const paths = new Map<string, ObjectState['paths'][string]>()
    for (const { path, device, incarnation, value } of writes) {
      const actor = actorOf(`00000000-0000-7000-8000-00000000000${device}`, incarnation)
      paths.set(path, [...(paths.get(path) ?? []), { actor, clock: { [actor]: 1 }, value }])
    }
    return { clock: {}, paths: Object.fromEntries(paths) }
  })

/** Conflicts as text, whatever order a value's names are in. */
const textOf = (conflicts: readonly Conflict[]): string =>
  canonicalize(conflicts.map(({ path, sides }) => ({ path, sides })))

test('rules 4 and 11: the database derives the conflicts that the merge core does', async (t) => {
  let found = 0
  await t.notThrowsAsync(
    fc.assert(
      fc.asyncProperty(fc.constantFrom('workflow_definition', 'agent_config'), states, async (className, state) => {
        const { rows } = await world.owner.query(
          `SELECT s.path, s.sides FROM devices.fn_sync_splits(ROW($1, $2, 'x')::devices.sync_key, $3) s`,
          ['00000000-0000-0000-0000-000000000000', className, state],
        )
        const expected = conflictsOf(className, state)
        found += expected.length
        const texts = [rows, expected].map(textOf)
        if (texts[0] !== texts[1]) throw new Error(`${texts[0]} is not ${texts[1]}`)
      }),
      { numRuns: 150 },
    ),
  )
  t.true(found > 50)
})
