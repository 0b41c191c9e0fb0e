import test from 'ava'
import { actorOf, apply, compareWrites, conflictsOf, digestOf, emptyState, join, read, sumOf } from '../src/index.ts'
import { a, after, agent, b, deviceA, deviceB, graph, must, workflow } from './_objects.ts'

type Change = Parameters<typeof must>[3]

/** What two machines come to that edited the same object, each without the other's edit. */
const both = (name: typeof agent, start: ReturnType<typeof after>, ofA: Change, ofB: Change) => {
  const [left, right] = [apply(start, must(name, start, a, ofA)), apply(start, must(name, start, b, ofB))]
  return { left, right, merged: join(left, right) }
}

test('mistake 6: two writes to different fields both survive, and the merged clock is the join of both', (t) => {
  const start = after(agent, [[a, { name: 'Reviewer', model: 'small' }]])
  const { left, right, merged } = both(agent, start, { name: 'Reader' }, { model: 'large' })
  t.deepEqual(read(agent.class, merged).paths, { model: 'large', name: 'Reader' })
  t.deepEqual(merged.clock, { [a]: 2, [b]: 1 })
  t.is(digestOf(merged), digestOf(join(right, left)))
  // A later merge loses nothing either: what has seen one of both is beside the other.
  const later = apply(left, must(agent, left, a, { notes: 'n' }))
  t.deepEqual(read(agent.class, join(later, right)).paths, { model: 'large', name: 'Reader', notes: 'n' })
})

test('rule 3: of writes beside each other the one with the higher sum is read', (t) => {
  const start = after(agent, [[a, { name: 'x' }]])
  const twice = after(
    agent,
    [
      [b, { name: 'y' }],
      [b, { name: 'z' }],
    ],
    start,
  ) // prettier-ignore
  const merged = join(twice, apply(start, must(agent, start, a, { name: 'w' })))
  t.is(read(agent.class, merged).paths.name, 'z')
  t.deepEqual(conflictsOf(agent.class, merged), [])
})

test('rule 3: of equal sums the smaller device is read, and of one device the later incarnation', (t) => {
  t.is(read(agent.class, both(agent, emptyState, { name: 'of a' }, { name: 'of b' }).merged).paths.name, 'of a')
  const again = [2, 10].map((n) => apply(emptyState, must(agent, emptyState, actorOf(deviceB, n), { name: `${n}` })))
  t.is(read(agent.class, again.reduce(join)).paths.name, '10')
})

test('rule 3: what stands beside the read write is told, until somebody writes over both', (t) => {
  const start = after(agent, [[a, { name: 'x', model: 'small' }]])
  const { left, right, merged } = both(agent, start, { name: 'of a', model: 'same' }, { name: 'of b', model: 'same' })
  const besideIn = (state: typeof merged) => {
    const { beside } = read(agent.class, state)
    return Object.entries(beside).map(([path, writes]) => [path, ...writes.map(({ actor, value }) => [actor, value])])
  }
  t.deepEqual(besideIn(merged), [['name', [b, 'of b']]], 'equal values are one')
  t.deepEqual(besideIn(join(right, left)), besideIn(merged))
  t.deepEqual(read(agent.class, merged).conflicts, [])
  for (const name of ['of a', 'of b', 'of neither']) {
    const decided = apply(merged, must(agent, merged, b, { name }))
    t.deepEqual(
      [read(agent.class, decided).paths.name, besideIn(decided)],
      [name, []],
      'the read value too may be chosen',
    )
  }
  t.deepEqual(besideIn(left), [])
})

test('rule 10: a delete beside an edit is told, whichever of both is read; a conflict is told as one and nowhere else', (t) => {
  const start = after(agent, [[a, { name: 'x' }]])
  const gone = both(agent, start, 'delete', { name: 'y' }).merged
  t.deepEqual(
    [read(agent.class, gone).alive, read(agent.class, gone).beside.$life?.map(({ actor }) => actor)],
    [false, [b]],
  )
  const kept = both(agent, start, { name: 'y' }, 'delete').merged
  const view = read(agent.class, kept)
  t.deepEqual([view.alive, view.beside.$life?.map(({ actor, value }) => [actor, value])], [true, [[b, null]]])
  t.deepEqual(read(agent.class, apply(kept, must(agent, kept, a, 'undelete'))).beside, {})

  const steps = after(workflow, [[a, { 'step/s/body': 'old' }]])
  const parted = both(workflow, steps, { 'step/s/body': 'a' }, { 'step/s/body': 'b' }).merged
  t.deepEqual([read(workflow.class, parted).conflicts.length, read(workflow.class, parted).beside], [1, {}])
  const pasts = [1, 2].map((n) => apply(emptyState, must(agent, emptyState, actorOf(deviceA, n), { name: `${n}` })))
  const told = read(agent.class, pasts.reduce(join))
  t.deepEqual([told.conflicts.map(({ path }) => path), told.beside], [['name'], {}], 'of one device it is a conflict')
})

test('rule 3: a write that has seen another is read, whichever device made it', (t) => {
  const [older, newer] = [
    after(agent, [[a, { name: 'a' }]]),
    after(agent, [
      [a, { name: 'a' }],
      [b, { name: 'b' }],
    ]),
  ]
  const [first] = older.paths.name ?? []
  const [second] = newer.paths.name ?? []
  t.true(first !== undefined && second !== undefined && compareWrites(second, first) < 0)
  t.true(sumOf(newer.clock) > sumOf(older.clock))
})

test('rule 4: a step that both changed is a conflict with both sides, the shown one first; a step’s place is not', (t) => {
  const start = after(workflow, [[a, { 'step/s/body': 'old', 'step/s/pos': 1 }]])
  const changes = [
    { 'step/s/body': 'A', 'step/s/pos': 2 },
    { 'step/s/body': 'B', 'step/s/pos': 3 },
  ] as const
  const { merged } = both(workflow, start, ...changes)
  const { conflicts, paths } = read(workflow.class, merged)
  t.deepEqual(
    conflicts.map(({ path, sides }) => [path, sides.map(({ actor, value }) => [actor, value])]),
    [
      [
        'step/s/body',
        [
          [a, 'A'],
          [b, 'B'],
        ],
      ],
    ],
  )
  t.deepEqual(paths, { 'step/s/body': 'A', 'step/s/pos': 2 })
})

test('rule 4: equal values are no conflict, one deletes and one changes is', (t) => {
  const start = after(workflow, [[a, { 'version/v1': { created_at: 't' } }]])
  const changed = { 'version/v1': { created_at: 'u', by: 1 } }
  const same = { 'version/v1': { by: 1, created_at: 'u' } }
  t.deepEqual(conflictsOf(workflow.class, both(workflow, start, changed, same).merged), [])
  const [conflict] = conflictsOf(workflow.class, both(workflow, start, changed, { 'version/v1': null }).merged)
  t.deepEqual(
    conflict?.sides.map(({ value }) => value),
    [changed['version/v1'], null],
  )
})

test('rule 4: two pasts of one device differ on any path, and who chooses sees everything that stands there', (t) => {
  const by = (device: string, n: number, name: string) =>
    apply(emptyState, must(agent, emptyState, actorOf(device, n), { name }))
  const merged = [by(deviceB, 1, 'p'), by(deviceB, 2, 'q'), by(deviceA, 1, 'r')].reduce(join)
  const [conflict] = conflictsOf(agent.class, merged)
  t.deepEqual(
    conflict?.sides.map(({ value }) => value),
    ['r', 'q', 'p'],
  )
  t.is(read(agent.class, merged).paths.name, 'r')
  t.deepEqual(conflictsOf(agent.class, join(by(deviceB, 1, 'p'), by(deviceB, 2, 'p'))), [])
  t.deepEqual(conflictsOf(agent.class, join(by(deviceB, 1, 'p'), by(deviceA, 1, 'q'))), [])
})

test('rule 4: one clock and two values, by one device, is a conflict in whichever order they meet', (t) => {
  const [p, q] = ['p', 'q'].map((name) => apply(emptyState, must(agent, emptyState, a, { name }))) as [never, never]
  t.is(digestOf(join(p, q)), digestOf(join(q, p)))
  t.deepEqual(
    conflictsOf(agent.class, join(p, q))[0]?.sides.map(({ value }) => value),
    ['p', 'q'],
  )
})

test('rule 2: an edge whose end is gone is hidden, and there again with its end', (t) => {
  const start = after(graph, [[a, { 'node/x': 1, 'node/y': 1, 'edge/x/y': { weight: 1 } }]])
  const { merged } = both(graph, start, { 'edge/x/y': { weight: 2 } }, { 'node/y': null })
  t.deepEqual(read(graph.class, merged).paths, { 'node/x': 1 })
  t.deepEqual(read(graph.class, after(graph, [[b, { 'node/y': 2 }]], merged)).paths, {
    ...{ 'edge/x/y': { weight: 2 }, 'node/x': 1, 'node/y': 2 },
  })
})

test('rule 10: a deletion and an edit beside it are decided by the clock; the edit is kept, listed and comes back', (t) => {
  const start = after(agent, [[a, { name: 'x' }]])
  const { merged } = both(agent, start, 'delete', { model: 'm' })
  const dead = read(agent.class, merged)
  t.false(dead.alive)
  t.deepEqual(dead.editedWhileDeleted, ['model'])
  const back = read(agent.class, after(agent, [[b, 'undelete']], merged))
  t.true(back.alive)
  t.deepEqual([back.paths, back.editedWhileDeleted], [{ model: 'm', name: 'x' }, []])
  const { merged: alive } = both(agent, start, { model: 'm' }, 'delete')
  t.true(read(agent.class, alive).alive)
})

test('rule 10: of a workflow it is a conflict, and it is shown alive until a person decides', (t) => {
  const start = after(workflow, [[a, { name: 'x' }]])
  const { merged } = both(workflow, start, 'delete', { name: 'y' })
  const view = read(workflow.class, merged)
  t.true(view.alive)
  t.deepEqual(
    view.conflicts.map(({ path, sides }) => [path, sides.map(({ value }) => value)]),
    [['$life', [null, true]]],
  )
  const decided = read(workflow.class, after(workflow, [[a, 'delete']], merged))
  t.false(decided.alive)
  t.deepEqual(decided.conflicts, [])
})

test('what was never written is not there, and of what was deleted nothing is listed', (t) => {
  t.deepEqual(read(agent.class, emptyState), {
    alive: false,
    paths: {},
    conflicts: [],
    beside: {},
    editedWhileDeleted: [],
  })
  const gone = read(
    agent.class,
    after(agent, [
      [a, { name: 'x' }],
      [a, { name: null }],
      [b, 'delete'],
    ]),
  )
  t.deepEqual(gone, { alive: false, paths: {}, conflicts: [], beside: {}, editedWhileDeleted: [] })
})
