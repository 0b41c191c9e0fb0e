import { limits } from '@lenserfight/schemas'
import test from 'ava'
import {
  actorOf,
  apply,
  checksumOf,
  deltaOf,
  digestOf,
  edit,
  emptyChecksum,
  emptyState,
  entryOf,
  isTooLarge,
  type Json,
  join,
  read,
  reservedActor,
  stateOf,
} from '../src/index.ts'
import { a, after, agent, b, deviceA, must, workflow } from './_objects.ts'

const by = { actor: a, prev: null }

test('rule 5: an edit counts its actor up by one over all that was seen, and says that the object exists', (t) => {
  const start = after(agent, [
    [a, { name: 'x' }],
    [b, { name: 'y' }],
  ])
  t.deepEqual(must(agent, start, a, { model: 'm' }, 'link'), {
    ...agent,
    ...{ actor: a, prev: 'link', clock: { [a]: 2, [b]: 1 }, paths: { model: 'm', $life: true } },
  })
  t.deepEqual(must(agent, start, b, 'delete').paths, { $life: null })
  // Whether it exists is no field to set.
  t.deepEqual(must(agent, start, b, { $life: null, name: 'z' }).paths, { name: 'z', $life: true })
})

test('rule 5: what changes nothing is no edit', (t) => {
  const start = after(agent, [[a, { name: 'x', parameters: { p: 1, q: [2] } }]])
  const changes: Record<string, Json>[] = [
    {},
    { name: 'x' },
    { model: null },
    { parameters: { q: [2], p: 1 } },
    { $life: null },
  ]
  for (const paths of changes) {
    t.is(edit(agent, start, by, { paths }), undefined, JSON.stringify(paths))
  }
  t.is(edit(agent, start, by, 'undelete'), undefined)
  t.is(edit(agent, emptyState, by, 'delete'), undefined)
  t.is(edit(agent, after(agent, [[b, 'delete']], start), by, 'delete'), undefined)
  t.deepEqual(edit(agent, start, by, { paths: { name: 'x', model: 'm' } })?.paths, { model: 'm', $life: true })
})

test('rule 5: to write what is read already decides between what stands beside each other', (t) => {
  const [left, right] = ['x', 'y'].map((body, index) =>
    apply(emptyState, must(workflow, emptyState, [a, b][index] as string, { 'step/s/body': body })),
  ) as [never, never]
  const merged = join(left, right)
  t.is(read(workflow.class, merged).conflicts.length, 1)
  const decided = after(workflow, [[b, { 'step/s/body': 'x' }]], merged)
  t.deepEqual(
    [read(workflow.class, decided).conflicts, read(workflow.class, decided).paths],
    [[], { 'step/s/body': 'x' }],
  )
})

test('an object without any field is one', (t) => {
  t.true(read(agent.class, after(agent, [[a, {}]])).alive)
})

test('an entry says what its delta says, and its writer is who signed it', (t) => {
  const delta = must(agent, after(agent, [[b, { name: 'y' }]]), actorOf(deviceA, 77), { name: 'x' }, 'p')
  t.deepEqual(deltaOf(entryOf(delta), deviceA), delta)
  t.false('actor' in entryOf(delta))
})

test('names that every object has in JavaScript are names like others', (t) => {
  const odd = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
  for (const path of odd) {
    const paths = JSON.parse(`{${JSON.stringify(path)}:"x"}`)
    t.is(
      edit(agent, emptyState, by, { paths: JSON.parse(`{${JSON.stringify(path)}:null,"name":"n"}`) })?.paths.name,
      'n',
    )
    const delta = must(agent, emptyState, a, paths)
    const state = join(after(agent, [[b, { name: 'y' }]]), stateOf(delta))
    t.deepEqual(Object.keys(state.paths).sort(), ['$life', path, 'name'].sort())
    t.is(digestOf(state), digestOf(join(stateOf(delta), after(agent, [[b, { name: 'y' }]]))))
    const clocks = [JSON.parse(`{${JSON.stringify(path)}:1}`), { [b]: 1 }]
    const joined = clocks.map((clock) => stateOf({ actor: path, clock, paths: { name: 'x' } })).reduce(join)
    t.deepEqual(Object.keys(joined.clock).sort(), [b, path].sort())
    t.is(joined.paths.name?.length, 2)
  }
})

test('a digest follows from what is held alone, and from all of it', (t) => {
  const state = after(agent, [[a, { name: 'x', temperature: 1 }]])
  const again = JSON.parse(JSON.stringify({ paths: state.paths, clock: state.clock, more: 1 }))
  t.is(digestOf(again), digestOf(state))
  // By sha256sum, of {"clock":{},"paths":{}}.
  t.is(digestOf(emptyState), '0LmqbjrRFAs2u6FHuKTBS3wS-YYdSdBjh0yB21KB7To')
  t.not(digestOf({ ...state, clock: { ...state.clock, [b]: 1 } }), digestOf(state))
  t.not(digestOf(after(agent, [[a, { name: 'x', temperature: 1.5 }]])), digestOf(state))
})

test('a checksum is that of the objects held, in any order; of none it is zero', (t) => {
  const held = ['p', 'q', 'r'].map((object) => ({ object, digest: digestOf(after(agent, [[a, { name: object }]])) }))
  t.deepEqual(checksumOf([]), emptyChecksum)
  t.deepEqual(checksumOf(held), checksumOf(held.toReversed()))
  t.is(checksumOf(held).count, 3)
  t.notDeepEqual(checksumOf(held), checksumOf(held.map((each, index) => ({ ...each, object: `${index}` }))))
  for (const one of held) t.regex(checksumOf([one]).xor, /^[0-9a-f]{32}$/)
  // By sha256sum too, of ["p","d"].
  t.is(checksumOf([{ object: 'p', digest: 'd' }]).xor, '923767c076b1d3647ef8a0a038393574')
})

test('an object is too large by what it reads, by all that is stored, by its paths and by its writers', (t) => {
  const large = (n: number) => after(agent, [[a, { notes: 'x'.repeat(n) }]])
  t.false(isTooLarge(agent.class, large(limits.objectBytes - 20)))
  t.true(isTooLarge(agent.class, large(limits.objectBytes)))
  // Of bytes, not of letters.
  t.true(isTooLarge(agent.class, after(agent, [[a, { notes: 'é'.repeat(limits.objectBytes / 2) }]])))
  const sides = (n: number) =>
    Array.from({ length: n }, (_, index) =>
      stateOf({
        actor: actorOf(deviceA, index + 1),
        clock: { [actorOf(deviceA, index + 1)]: 1 },
        paths: { name: 'x'.repeat(20_000) },
      }),
    ).reduce(join)
  t.false(isTooLarge(agent.class, sides(10)))
  t.true(isTooLarge(agent.class, sides(11)))
  const many = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, index) => [`pref/${index}`, 1]))
  t.false(isTooLarge('non_secret_pref', after(agent, [[a, many(limits.objectPaths - 1)]])))
  t.true(isTooLarge('non_secret_pref', after(agent, [[a, many(limits.objectPaths)]])))
  const clock = (n: number) =>
    Object.fromEntries(Array.from({ length: n }, (_, index) => [actorOf(deviceA, index + 1), 1]))
  t.false(isTooLarge(agent.class, { clock: clock(limits.clockActors), paths: {} }))
  t.true(isTooLarge(agent.class, { clock: clock(limits.clockActors + 1), paths: {} }))
  // A decision always finds room.
  t.false(isTooLarge(agent.class, { clock: { ...clock(limits.clockActors), [reservedActor()]: 1 }, paths: {} }))
  const beside = (n: number) =>
    after(agent, [[b, { name: 'B' }]], {
      clock: {},
      paths: {
        tags: Array.from({ length: n }, (_, index) => {
          const actor = actorOf(deviceA, index + 1)
          return { actor, clock: { [actor]: 1 }, value: [] }
        }),
      },
    })
  t.false(isTooLarge(agent.class, beside(limits.writesPerPath)))
  t.true(isTooLarge(agent.class, beside(limits.writesPerPath + 1)))
})
