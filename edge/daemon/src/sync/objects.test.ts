import { limits, objectClassNames, pullableClasses, pushableClasses } from '@lenserfight/schemas'
import { emptyState, partsOf } from '@lenserfight/sync'
import test from 'ava'
import { openStore } from '../store.ts'
import { deviceA, newMachine, reviewer } from './_machine.ts'
import { createObjects } from './objects.ts'
import { createSyncTables } from './tables.ts'

const localClasses = objectClassNames.filter((name) => !pullableClasses.includes(name))
const cloudClasses = pullableClasses.filter((name) => !pushableClasses.includes(name))

test('SC-5: an object of a local-only class never enters the outbox: the daemon refuses it', (t) => {
  const { objects, tables } = newMachine()
  t.true(localClasses.length > 0)
  for (const name of localClasses) {
    const one = { class: name, object: 'one' }
    for (const act of [() => objects.set(one, { name: 'x' }), () => objects.delete(one), () => objects.get(one)])
      t.throws(act, { code: 'local_only_class' }, name)
  }
  t.is(tables.countKept(), 0)
})

test('SC-5: with the daemon’s own check gone, its database still takes no entry of a local-only class', (t) => {
  const { store, tables } = newMachine()
  const insert = (name: string): void => {
    store.run(
      `INSERT INTO sync_outbox (class, object, delta, base, bytes, created_at) VALUES (?, 'one', '{}', '{}', 2, 0)`,
      name,
    )
  }
  store.run('PRAGMA foreign_keys = OFF')
  for (const name of [...localClasses, ...cloudClasses, 'no_such_class'])
    t.throws(() => insert(name), { code: 'state_unwritable' }, name)
  for (const name of pushableClasses) t.notThrows(() => insert(name), name)
  t.is(tables.countKept(), pushableClasses.length)
  for (const name of [...localClasses, 'no_such_class']) {
    const record = { ...{ class: name, object: 'one', local: emptyState, confirmed: null, incarnation: 0, link: null } }
    const rest = { isRebasing: false, rebasedAt: null, notBefore: 0, setAside: null, changedAt: 0 }
    t.throws(() => tables.save(undefined, { record: { ...record, ...rest }, entries: [] }), {
      code: 'state_unwritable',
    })
  }
})

test('SB-4: an edge writes no object that the gateway decides, and no class that there is not', (t) => {
  const { objects, tables } = newMachine()
  for (const name of cloudClasses) {
    t.throws(() => objects.set({ class: name, object: 'one' }, { value: 1 }), { code: 'cloud_authoritative' }, name)
    t.throws(() => objects.delete({ class: name, object: 'one' }), { code: 'cloud_authoritative' }, name)
  }
  for (const name of ['', 'Agent_config', '__proto__', 'toString'])
    t.throws(() => objects.set({ class: name, object: 'one' }, { name: 'x' }), { code: 'unknown_class' }, name)
  t.is(tables.countKept(), 0)
})

test('rule 5: an edit counts its writer up by one and is in the outbox with its state, or nothing of it is', (t) => {
  const { objects, tables, store, file } = newMachine()
  objects.set(reviewer, { name: 'Reviewer', model: 'small' })
  t.like(objects.set(reviewer, { model: 'large' }), { paths: { model: 'large', name: 'Reviewer' }, pending: 2 })
  const [first, second] = tables.find(reviewer)?.entries ?? []
  const actor = first?.delta.actor ?? ''
  t.true(actor.startsWith(`${deviceA}~`))
  t.deepEqual(first?.delta.clock, { [actor]: 1 })
  t.deepEqual(second?.delta.clock, { [actor]: 2 })
  t.deepEqual([first?.delta.prev, second?.delta.paths], [null, { $life: true, model: 'large' }])
  t.is(typeof second?.delta.prev, 'string')

  store.run(`CREATE TRIGGER full BEFORE INSERT ON sync_outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
  t.throws(() => objects.set(reviewer, { name: 'Lost' }), { code: 'state_unwritable' })
  t.is(objects.get(reviewer).paths.name, 'Reviewer')
  store.close()
  const again = createSyncTables(openStore(file))
  const later = createObjects({ tables: again, deviceId: () => deviceA })
  t.like(later.get(reviewer), { alive: true, pending: 2, paths: { model: 'large', name: 'Reviewer' } })
})

test('rule 9: an object that is made again under a name that was forgotten has a new writer, and never a small number', (t) => {
  let now = 1_700_000_000_000
  const { objects, tables } = newMachine({ now: () => now++ })
  objects.set(reviewer, { name: 'one' })
  const before = tables.find(reviewer)
  tables.transaction(() => tables.save(before, null))
  t.throws(() => objects.get(reviewer), { code: 'object_not_found' })
  objects.set(reviewer, { name: 'two' })
  const after = tables.find(reviewer)
  const [first, second] = [before, after].map((kept) => kept?.entries[0]?.delta.actor)
  for (const actor of [first, second]) t.true(partsOf(actor ?? '').incarnation >= 1_700_000_000_000)
  t.not(first, second)
})

test('what says nothing new is no edit', (t) => {
  const { objects, tables } = newMachine()
  objects.set(reviewer, { name: 'Reviewer' })
  objects.set(reviewer, { name: 'Reviewer' })
  objects.undelete(reviewer)
  t.is(tables.countKept(), 1)
  objects.delete(reviewer)
  objects.delete(reviewer)
  t.is(tables.countKept(), 2)
})

test('an object is deleted, listed as such, and brought back with what it had', (t) => {
  const { objects } = newMachine()
  objects.set(reviewer, { name: 'Reviewer' })
  objects.set({ ...reviewer, object: 'writer' }, { name: 'Writer' })
  t.false(objects.delete(reviewer).alive)
  const named = (which: Parameters<typeof objects.list>[0]) => objects.list(which).objects.map(({ object }) => object)
  t.deepEqual(named({}), ['writer'])
  t.deepEqual(named({ deleted: true, class: 'agent_config' }), ['reviewer', 'writer'])
  t.deepEqual(named({ deleted: true, after: 'agent_config/reviewer' }), ['writer'])
  t.deepEqual(named({ class: 'lens_draft' }), [])
  t.like(objects.undelete(reviewer), { alive: true, paths: { name: 'Reviewer' } })
  for (const act of [objects.get, objects.delete, objects.undelete, objects.discard])
    t.throws(() => act({ ...reviewer, object: 'nobody' }), { code: 'object_not_found' })
})

test('what is not of its class’s form, or too much, is refused as it is edited and leaves nothing', (t) => {
  const { objects, tables } = newMachine()
  const refusals: [string, Record<string, unknown>][] = [
    ['invalid_object', {}],
    ['invalid_object', { no_such: 1 }],
    ['invalid_object', { temperature: 'warm' }],
    ['invalid_object', { $life: null }],
    ['invalid_object', { name: 'a\ud800' }],
    ['invalid_object', JSON.parse('{"__proto__": 1}') as Record<string, unknown>],
  ]
  for (const [code, paths] of refusals) t.throws(() => objects.set(reviewer, paths), { code }, JSON.stringify(paths))
  t.throws(() => objects.set({ ...reviewer, object: '../x' }, { name: 'x' }), { code: 'invalid_object' })
  const pref = { class: 'non_secret_pref', object: 'all' }
  t.throws(() => objects.set(pref, { 'pref/a': 'x'.repeat(limits.objectBytes) }), { code: 'object_too_large' })
  t.throws(() => objects.set(pref, { 'pref/a': { b: JSON.parse('1e999') as number } }), { code: 'invalid_object' })
  for (const value of [1e300, 2 ** 53, 'a\u0000', { 'a\u0000': 1 }, [['\udc00']]])
    t.throws(() => objects.set(pref, { 'pref/a': value }), { code: 'invalid_object' }, 'no envelope carries it')
  t.is(tables.countKept(), 0)
  t.deepEqual(objects.list({ deleted: true }).objects, [])
  const carried = { 'pref/a': 2 ** 53 - 1, 'pref/b': 0.5, 'pref/c': 5e-324, 'pref/d': 'a\n\u{1f600}' }
  t.deepEqual(objects.set(pref, carried).paths, carried)
})

test('an outbox of edits that is full says so and keeps what it has', (t) => {
  const { objects, tables } = newMachine({ capacity: 2 })
  objects.set(reviewer, { name: 'a' })
  objects.set(reviewer, { name: 'b' })
  t.throws(() => objects.set(reviewer, { name: 'c' }), { code: 'outbox_full' })
  t.is(objects.get(reviewer).paths.name, 'b')
  t.is(tables.countKept(), 2)
})
