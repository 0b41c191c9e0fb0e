import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { digestOf, read } from '../src/index.ts'
import { expectedOf } from './_oracle.ts'
import { gatewayOf, type History, history, live, localOf, type World } from './_world.ts'

const histories = (t: ExecutionContext, numRuns: number, check: (world: World, of: History) => void): World[] => {
  const worlds: World[] = []
  t.notThrows(() =>
    fc.assert(
      fc.property(history, (of) => {
        const world = live(of)
        worlds.push(world)
        check(world, of)
      }),
      { numRuns },
    ),
  )
  return worlds
}
const equal = (left: unknown, right: unknown, what: string): void => {
  const [a, b] = [left, right].map((each) => JSON.stringify(each))
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`)
}
const sorted = (record: Readonly<Record<string, unknown>>) =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))

test('rules 1 to 10: after any history all machines hold what the gateway holds, and that is what was written', (t) => {
  const worlds = histories(t, 600, (world) => {
    const { state } = gatewayOf(world)
    for (const machine of world.machines) {
      equal(machine.entries.length, 0, 'edits left')
      equal(digestOf(localOf(machine)), digestOf(state), machine.id)
    }
    const expected = expectedOf(world.className, world.taken)
    const view = read(world.className, state)
    equal(sorted(state.clock), sorted(expected.clock), 'clock')
    equal(
      sorted(state.paths).map(([path, writes]) => [path, (writes as { actor: string }[]).map(({ actor }) => actor)]),
      sorted(expected.standing),
      'writes',
    )
    equal(view.alive, expected.alive, 'alive')
    equal(sorted(view.paths), sorted(expected.paths), 'paths')
    equal(
      view.conflicts.map(({ path, sides }) => ({ path, values: sides.map(({ value }) => JSON.stringify(value)) })),
      expected.conflicts,
      'conflicts',
    )
  })
  const counts: Record<string, number> = {}
  for (const world of worlds) {
    for (const [what, n] of Object.entries(world.counts)) counts[what] = (counts[what] ?? 0) + n
  }
  t.log(counts)
  // Whatever may happen did.
  for (const what of ['admitted', 'duplicate', 'clock_reused', 'out_of_order', 'rewritten', 'resolved', 'undone']) {
    t.true((counts[what] ?? 0) > 0, what)
  }
})
