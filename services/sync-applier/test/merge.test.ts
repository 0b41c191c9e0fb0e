import { objectClasses, objectClassNames, type SyncEntry } from '@lenserfight/schemas'
import { actorOf, emptyState, entryOf, join, linkOf, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { decideMerge } from '../src/decide/merge.ts'
import type { Opened } from '../src/decide/opened.ts'
import { appliedKinds, type Item, isApplied } from '../src/decode.ts'
import { partsOf } from '../src/push.ts'
import { createMachine } from './_machine.ts'

const deviceId = '01900000-0000-7000-8000-000000000001'
const machine = (incarnation = 1) => createMachine({ id: deviceId, lenser: deviceId, keys: {} as never }, incarnation)
const name = { class: 'agent_config', object: 'a' }

/** One push of one device, about one object, as the database would open it. */
const openedWith = (entries: readonly SyncEntry[], state: ObjectState = emptyState, links = {}): Opened => ({
  items: [{ idx: 1, device_id: deviceId, entries: entries.map(() => ({ at: 0 })) }],
  objects: [{ class: entries[0]?.class ?? '', object: entries[0]?.object ?? '', state, links }],
})
const decide = (entries: readonly SyncEntry[], state?: ObjectState, links?: Record<string, string>) =>
  decideMerge(openedWith(entries, state, links), () => entries)

test('SB-4 SC-5: the applier refuses what no machine may write by itself, whatever the database lets through', (t) => {
  const codes = { cloud: 'cloud_authoritative', local: 'local_only_class' }
  for (const className of objectClassNames) {
    const { authority } = objectClasses[className]
    if (authority === 'both') continue
    const entry = { ...machine().set(name, { name: 'x' }), class: className }
    const { items, objects } = decide([entry])
    t.deepEqual([items[0]?.entries, objects], [[{ code: codes[authority] }], []], className)
  }
  t.deepEqual(decide([{ ...machine().set(name, { name: 'x' }), class: 'no_such' }]).items[0]?.entries, [
    { code: 'unknown_class' },
  ])
})

test('rule 7: several entries of one object are merged one upon the other, and a refused one leaves the next waiting', (t) => {
  const one = machine()
  const [first, second, third] = [
    one.set(name, { name: 'a' }),
    one.set(name, { name: 'b' }),
    one.set(name, { notes: 'c' }),
  ]
  const { items, objects } = decide([first, second, third, second])
  t.deepEqual(
    items[0]?.entries.map((said) => ('status' in said ? said.status : said.code)),
    ['applied', 'applied', 'applied', 'duplicate'],
  )
  t.deepEqual(objects[0]?.state, one.state(name))
  t.like(objects[0], { idx: 1, entry: 0 })
  const poisoned = { ...second, paths: { $life: true, name: 7 } }
  const after = decide([first, poisoned, third])
  t.deepEqual(
    after.items[0]?.entries.map((said) => ('status' in said ? said.status : said.code)),
    ['applied', 'invalid_object', 'out_of_order'],
  )
})

test('mistake 6: what is kept is the join of what was stored and every edit, none of its paths dropped', (t) => {
  const other = createMachine({ id: '01900000-0000-7000-8000-000000000002', lenser: deviceId, keys: {} as never })
  other.set(name, { description: 'theirs', notes: 'n' })
  const mine = machine()
  const entry = mine.set(name, { name: 'mine' })
  const { objects } = decide([entry], other.state(name))
  t.deepEqual(objects[0]?.state, join(other.state(name), mine.state(name)))
})

test('paths that no class has are refused, those that are no names in JavaScript too', (t) => {
  const entry = machine().set(name, { name: 'x' })
  for (const path of ['__proto__', 'constructor', 'toString', '', 'pref/x']) {
    const paths = JSON.parse(`{"$life": true, ${JSON.stringify(path)}: "x"}`)
    t.like(decide([{ ...entry, paths }]).items[0]?.entries[0], { code: 'invalid_object' }, path)
  }
  t.like(decide([{ ...entry, paths: { name: 'x' } }]).items[0]?.entries[0], { code: 'invalid_object' })
})

test('what the database opened otherwise than it was signed is merged by nobody', (t) => {
  const entry = machine().set(name, { name: 'x' })
  const opened = openedWith([entry])
  t.throws(() => decideMerge(opened, () => []), { instanceOf: TypeError })
  t.throws(() => decideMerge(opened, () => [{ ...entry, object: 'b' }]), { instanceOf: TypeError })
  const coded = { ...opened, items: [{ idx: 1, device_id: deviceId, entries: [{ code: 'because' }] }] }
  t.throws(() => decideMerge(coded, () => [entry]), { instanceOf: TypeError })
})

test('rule 9: a new incarnation is another writer of the same device', (t) => {
  const [before, after] = [machine(), machine(2)]
  const first = before.set(name, { name: 'x' })
  after.absorb(name, before.state(name))
  const entry = after.set(name, { name: 'y' })
  const actor = actorOf(deviceId, 1)
  const link = linkOf({ ...first, actor, paths: first.paths as never })
  t.is(entry.incarnation, 2)
  t.like(decide([entry], before.state(name), { [actor]: link }).items[0]?.entries[0], { status: 'applied' })
  t.is(entryOf({ ...entry, actor, paths: entry.paths as never }).incarnation, 1)
})

test('pushes are merged as many together as one call takes, each whole', (t) => {
  const sizes = [100, 100, 100, 100, 100, 100, 1, 600, 1, ...Array(70).fill(1)]
  const items = sizes.map((size) => ({ text: String(size) })) as unknown as readonly Item[]
  const parts = partsOf(items, ({ text }) => Number(text))
  t.deepEqual(parts.flat(), items)
  t.deepEqual(
    parts.map((part) => part.length),
    [5, 2, 1, 64, 7],
  )
})

test('what is applied here is what the contract gives this service', (t) => {
  t.true(appliedKinds.every(isApplied))
  for (const kind of ['heartbeat', 'challenge', 'login', '__proto__']) t.false(isApplied(kind))
})
