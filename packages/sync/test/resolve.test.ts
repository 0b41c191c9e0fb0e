import test from 'ava'
import {
  actorOf,
  admit,
  apply,
  conflictsOf,
  type Delta,
  digestOf,
  emptyState,
  join,
  linkOf,
  type ObjectState,
  read,
  recovered,
  reopened,
  resolved,
  rewritten,
} from '../src/index.ts'
import { a, after, agent, b, chain, deviceA, must, workflow } from './_objects.ts'

const body = 'step/s/body'
const split = (() => {
  const start = after(workflow, [[a, { [body]: 'old' }]])
  return join(after(workflow, [[a, { [body]: 'A' }]], start), after(workflow, [[b, { [body]: 'B' }]], start))
})()
const sidesOf = (state: ObjectState) =>
  conflictsOf(workflow.class, state).map(({ sides }) => sides.map(({ value }) => value))

test('rule 12: a resolution stands over everything seen; undone, both sides are there as before', (t) => {
  const decided = resolved(split, body, 'B')
  t.deepEqual([read(workflow.class, decided).paths[body], sidesOf(decided)], ['B', []])
  const undone = reopened(decided, body, ['A', 'B'])
  t.deepEqual(sidesOf(undone), [['A', 'B']])
  t.is(read(workflow.class, undone).paths[body], read(workflow.class, split).paths[body])
  const again = resolved(undone, body, 'C')
  t.deepEqual([read(workflow.class, again).paths[body], sidesOf(again)], ['C', []])
  // A row that comes late or twice is harmless.
  t.is(digestOf([split, again, undone, decided].reduce(join)), digestOf(again))
})

test('rule 12: an edit that had not seen the resolution is beside it', (t) => {
  const late = after(workflow, [[b, { [body]: 'late' }]], split)
  t.deepEqual(
    sidesOf(join(resolved(split, body, 'A'), late)),
    [['late', 'A']].map((each) => each.toSorted()),
  )
})

test('rule 12: sides of any number, and of a path that others read by the clock, come back in their order', (t) => {
  const name = after(agent, [[a, { name: 'x' }]])
  const undone = reopened(name, 'name', ['p', 'q', 'r'])
  t.deepEqual(
    conflictsOf(agent.class, undone)[0]?.sides.map(({ value }) => value),
    ['p', 'q', 'r'],
  )
  t.is(read(agent.class, undone).paths.name, 'p')
})

/** What the gateway makes of edits of one actor, in order. */
const pushed = (state: ObjectState, deltas: readonly Delta[]): ObjectState => {
  let link: string | null = null
  return deltas.reduce((known, delta) => {
    const answer = admit({ clock: known.clock, paths: known.paths, link }, delta, linkOf(delta))
    if (answer !== 'admitted') throw new Error(answer)
    link = linkOf(delta)
    return apply(known, delta)
  }, state)
}

test('rule 9: a restored machine’s edits stand beside those of its other past, and a person decides', (t) => {
  const [first, lost] = chain(agent, a, [{ name: 'x' }, { name: 'lost', model: 'kept' }]) as [Delta, Delta]
  const backup = apply(emptyState, first)
  const gateway = apply(backup, lost)
  const delta = must(agent, backup, a, { name: 'again' }, linkOf(first))
  t.is(admit({ ...gateway, link: linkOf(lost) }, delta, linkOf(delta)), 'clock_reused')
  // A pull came first: what it holds now has the number of the edit, and hides it.
  const fresh = rewritten(agent, [{ delta, base: backup.clock }], gateway.clock, actorOf(deviceA, 2))
  const merged = pushed(gateway, fresh)
  t.deepEqual(
    conflictsOf(agent.class, merged)[0]?.sides.map(({ value }) => value),
    ['again', 'lost'],
  )
  t.is(read(agent.class, merged).paths.model, 'kept')
})

test('rule 9: several edits are written again one after another, each with what it had seen', (t) => {
  const [p, q] = chain(agent, a, [{ name: 'p' }, { name: 'q', model: 'm' }]) as [Delta, Delta]
  const gateway = after(agent, [
    [b, { model: 'b' }],
    [b, { notes: 'n' }],
  ])
  const edits = [
    { delta: p, base: {} },
    { delta: q, base: { [b]: 1 } },
  ]
  const fresh = rewritten(agent, edits, gateway.clock, actorOf(deviceA, 5))
  t.deepEqual(
    fresh.map(({ clock }) => clock),
    [{ [actorOf(deviceA, 5)]: 1 }, { [b]: 1, [actorOf(deviceA, 5)]: 2 }],
  )
  t.deepEqual(read(agent.class, pushed(gateway, fresh)).paths, { model: 'm', name: 'q', notes: 'n' })
})

test('rule 9: nobody claims to have seen what the gateway has no more', (t) => {
  const mine = after(agent, [
    [b, { name: 'x' }],
    [b, { name: 'y' }],
  ])
  const delta = must(agent, mine, a, { name: 'z' })
  const gateway = after(agent, [[b, { name: 'x' }]])
  t.is(admit({ ...gateway, link: null }, delta, linkOf(delta)), 'clock_ahead')
  const fresh = rewritten(agent, [{ delta, base: mine.clock }], gateway.clock, actorOf(deviceA, 2))
  t.is(read(agent.class, pushed(gateway, fresh)).paths.name, 'z')
})

test('rule 14: what a restored database lost is written again, over what both had seen', (t) => {
  const kept = after(agent, [[a, { name: 'x', model: 'm' }]])
  const mine = after(
    agent,
    [
      [b, { name: 'y' }],
      [a, { model: null }],
      [a, { notes: 'n' }],
    ],
    kept,
  )
  const fresh = recovered(agent, mine, kept, actorOf(deviceA, 2))
  t.deepEqual(read(agent.class, pushed(kept, fresh)), read(agent.class, mine))
  t.deepEqual(recovered(agent, pushed(kept, fresh), pushed(kept, fresh), actorOf(deviceA, 3)), [])
  t.deepEqual(read(agent.class, pushed(emptyState, recovered(agent, mine, emptyState, a))), read(agent.class, mine))
})

test('rule 14: what another wrote since the restore is not written over', (t) => {
  const kept = after(agent, [[a, { name: 'x', model: 'm' }]])
  const mine = after(agent, [[a, { name: 'y' }]], kept)
  const since = after(agent, [[b, { model: 'new' }]], kept)
  const merged = pushed(since, recovered(agent, mine, since, actorOf(deviceA, 2)))
  t.deepEqual(read(agent.class, merged).paths, { model: 'new', name: 'y' })
  // Both the same step: beside each other, for a person.
  const first = after(workflow, [[a, { [body]: 'old' }]])
  const [lost, newer] = [
    after(workflow, [[a, { [body]: 'lost' }]], first),
    after(workflow, [[b, { [body]: 'new' }]], first),
  ]
  t.deepEqual(sidesOf(pushed(newer, recovered(workflow, lost, newer, actorOf(deviceA, 2)))), [['lost', 'new']])
})

test('rule 14: a conflict of which the database lost one side is one again', (t) => {
  const start = after(workflow, [[a, { [body]: 'old' }]])
  const has = after(workflow, [[b, { [body]: 'B' }]], start)
  const mine = join(has, after(workflow, [[a, { [body]: 'A', name: 'n' }]], start))
  const merged = pushed(has, recovered(workflow, mine, has, actorOf(deviceA, 2)))
  t.deepEqual(sidesOf(merged), [['A', 'B']])
  t.is(read(workflow.class, merged).paths.name, 'n')
})

test('rule 14: a deletion that was lost is made again, and what neither has is not made', (t) => {
  const kept = after(agent, [[a, { name: 'x' }]])
  const mine = after(agent, [[b, 'delete']], kept)
  t.false(read(agent.class, pushed(kept, recovered(agent, mine, kept, actorOf(deviceA, 2)))).alive)
  t.deepEqual(recovered(agent, mine, emptyState, actorOf(deviceA, 2)), [])
  t.deepEqual(recovered(agent, emptyState, kept, actorOf(deviceA, 2)), [])
})
