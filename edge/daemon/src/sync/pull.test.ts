import { limits } from '@lenserfight/schemas'
import { apply, checksumOf, digestOf, edit, emptyState, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { deviceA, deviceB, newMachine, reviewer } from './_machine.ts'
import { applyPage } from './apply-page.ts'
import { type FeedPage, readFeedPage } from './pull-result.ts'
import { settlePush } from './settle-push.ts'

const className = reviewer.class
const hour = limits.resyncSeconds * 1000

/** An object as another device wrote it. */
const written = (paths: Record<string, string>, state: ObjectState = emptyState, device = deviceB): ObjectState => {
  const delta = edit(reviewer, state, { actor: `${device}~1`, prev: null }, { paths })
  return delta === undefined ? state : apply(state, delta)
}
const rowOf = (seq: number, object: string, state: ObjectState) => ({
  ...{ seq, object, op: 'upsert' as const, state, digest: digestOf(state) },
})
type Rows = { after?: number; upto: number; more?: boolean; rows?: object[]; checksum?: object }
const pageOf = ({ after = 0, upto, more = false, rows = [], checksum }: Rows, epoch = 1): FeedPage => {
  const part = { after, upto, more, rows, ...(checksum === undefined ? {} : { checksum }) }
  const page = readFeedPage(JSON.parse(JSON.stringify({ epoch, more, classes: { [className]: part } })))
  if (page === undefined) throw new TypeError('no page')
  return page
}
const newReader = () => {
  const machine = newMachine()
  const { tables } = machine
  const compared = new Map<string, number>()
  const take = (page: FeedPage, now = 1_000_000_000) =>
    applyPage({ tables, by: { deviceId: deviceA, now }, compared }, page)
  const cursor = () => tables.cursors().find((each) => each.class === className)
  const names = () => machine.objects.list({ deleted: true }).objects.map(({ object }) => object)
  return { ...machine, take, cursor, names }
}

test('what does not have the form of a page is none, and so are rows out of their order or range', (t) => {
  const state = written({ name: 'a' })
  const of = (part: object, more: object = {}) =>
    readFeedPage({ epoch: 1, more: false, classes: { [className]: part }, ...more })
  const good = { after: 1, upto: 3, more: false, rows: [rowOf(2, 'a', state), rowOf(3, 'b', state)] }
  t.truthy(of(good))
  t.truthy(of({ code: 'cursor_ahead' }))
  t.is(of(good, { epoch: 0 }), undefined)
  for (const wrong of [
    { code: 'no_such' },
    { upto: 0 },
    { rows: [rowOf(3, 'a', state), rowOf(2, 'b', state)] },
    { rows: [rowOf(4, 'a', state)] },
    { rows: [rowOf(1, 'a', state)] },
    { rows: [{ seq: 2, object: 'a', op: 'upsert' }] },
    { rows: [{ ...rowOf(2, 'a', state), state: { clock: {} } }] },
  ])
    t.is(of('code' in wrong ? wrong : { ...good, ...wrong }), undefined, JSON.stringify(wrong))
  t.is(
    readFeedPage({ epoch: 1, more: false, classes: { byok_key: good } }),
    undefined,
    'SC-5: nothing of it is stored here',
  )
  t.is(readFeedPage(null), undefined)
})

test('mistake 9: a cursor moves with its rows in one transaction, or neither does', (t) => {
  const { take, cursor, names, store } = newReader()
  store.run(
    `CREATE TRIGGER full BEFORE INSERT ON objects WHEN NEW.object = 'b' BEGIN SELECT RAISE(ABORT, 'disk full'); END`,
  )
  const page = pageOf({ upto: 2, rows: [rowOf(1, 'a', written({ name: 'a' })), rowOf(2, 'b', written({ name: 'b' }))] })
  t.throws(() => take(page), { code: 'state_unwritable' })
  t.deepEqual([cursor()?.after, names()], [0, []])
  store.run('DROP TRIGGER full')
  t.like(take(page), { rows: 2, objects: ['agent_config/a', 'agent_config/b'], more: false })
  t.deepEqual([cursor()?.after, names()], [2, ['a', 'b']])
  t.like(take(page), { rows: 0 }, 'an answer that another has overtaken')
  t.is(cursor()?.after, 2)
})

test('rule 8: a state from the feed joins an edit that was made meanwhile, and says which edits are back', (t) => {
  const { take, objects, tables } = newReader()
  objects.set(reviewer, { name: 'mine' })
  objects.set(reviewer, { notes: 'mine' })
  const [first] = tables.find(reviewer)?.entries ?? []
  tables.markUnderWay(first === undefined ? [] : [first], 'op')
  const by = { deviceId: deviceA, now: 1 }
  const push = { outcome: { ok: true, result: { entries: [{ status: 'applied' }] } }, count: 1 }
  tables.transaction(() => settlePush({ tables, by, retryAt: 1 }, 'op', push))
  t.deepEqual([tables.countKept(), tables.pending().count], [2, 1], 'it is kept until the feed brings it')
  const merged = apply(written({ model: 'theirs' }), first?.delta as never)
  take(pageOf({ upto: 1, rows: [rowOf(1, reviewer.object, merged)] }))
  t.deepEqual(objects.get(reviewer).paths, { model: 'theirs', name: 'mine', notes: 'mine' })
  t.deepEqual([tables.countKept(), tables.pending().count], [1, 1])
  t.is(digestOf(tables.find(reviewer)?.record.confirmed as ObjectState), digestOf(merged))
})

test('rule 10: a purge takes away what was dead, and not what was edited here meanwhile', (t) => {
  const { take, objects, names } = newReader()
  take(pageOf({ upto: 2, rows: [rowOf(1, 'a', written({ name: 'a' })), rowOf(2, 'b', written({ name: 'b' }))] }))
  objects.set({ ...reviewer, object: 'b' }, { name: 'mine' })
  take(
    pageOf({
      after: 2,
      upto: 4,
      rows: [
        { seq: 3, object: 'a', op: 'purge' },
        { seq: 4, object: 'b', op: 'purge' },
      ],
    }),
  )
  t.deepEqual(names(), ['b'])
  t.is(objects.get({ ...reviewer, object: 'b' }).paths.name, 'mine')
})

test('a cursor that the gateway does not take is begun anew, and a whole reading drops what it does not have', (t) => {
  const { take, cursor, names } = newReader()
  const [a, b] = [written({ name: 'a' }), written({ name: 'b' })]
  take(pageOf({ upto: 5, rows: [rowOf(4, 'a', a), rowOf(5, 'b', b)] }))
  for (const code of ['resync_required', 'cursor_ahead'] as const) {
    t.like(take({ epoch: 1, more: false, classes: { [className]: { code } } }), { more: true })
    t.like(cursor(), { after: 0, isSnapshot: true })
    t.like(take(pageOf({ upto: 4, more: true, rows: [rowOf(4, 'a', a)] })), { more: true })
    t.deepEqual(names(), ['a', 'b'], 'it is not read whole yet')
    take(pageOf({ after: 4, upto: 9, rows: code === 'cursor_ahead' ? [] : [rowOf(9, 'b', b)] }))
    t.like(cursor(), { after: 9, isSnapshot: false })
  }
  t.deepEqual(names(), ['a'])
  t.like(take({ epoch: 1, more: true, classes: { [className]: { code: 'resync_required' } } }), { more: true })
  const again = take({ epoch: 1, more: true, classes: { [className]: { code: 'resync_required' } } })
  t.false(again.more, 'nobody asks without end')
})

test('a checksum that differs is answered with one reading an hour; what differs still is told', (t) => {
  const { take, cursor, tables } = newReader()
  const a = written({ name: 'a' })
  const right = checksumOf([{ object: 'a', digest: digestOf(a) }])
  const wrong = { ...right, count: 2 }
  const rows = [rowOf(1, 'a', a)]
  t.like(take(pageOf({ upto: 1, rows, checksum: right })), { more: false, differing: [] })
  t.like(take(pageOf({ after: 1, upto: 2, checksum: wrong })), { more: true })
  t.like(cursor(), { after: 0, isSnapshot: true, hasDiverged: false })
  t.like(take(pageOf({ upto: 2, rows, checksum: wrong }), 1_000_000_001), { more: false, differing: [className] })
  t.like(cursor(), { after: 2, isSnapshot: false, hasDiverged: true })
  t.like(take(pageOf({ after: 2, upto: 2, checksum: wrong }), 1_000_000_000 + hour - 1), { more: false })
  t.like(take(pageOf({ after: 2, upto: 2, checksum: wrong }), 1_000_000_000 + hour), { more: true })
  t.like(take(pageOf({ upto: 2, rows, checksum: right }), 1_000_000_000 + hour), { more: false, differing: [] })
  t.is(tables.find({ ...reviewer, object: 'a' })?.entries.length, 0)
})

test('a class with edits that are not merged yet is not held against the gateway’s checksum', (t) => {
  const { take, objects, cursor } = newReader()
  objects.set(reviewer, { name: 'mine' })
  t.like(take(pageOf({ upto: 1, checksum: { count: 7, xor: '0'.repeat(32) } })), { more: false, differing: [] })
  t.like(cursor(), { after: 1, isSnapshot: false })
})

test('rule 14: in another epoch what is here becomes what the gateway says, and what it lacks is edited again', (t) => {
  const { take, objects, tables, cursor } = newReader()
  const old = written({ name: 'old', model: 'small' })
  const newer = written({ name: 'newer' }, old)
  take(pageOf({ upto: 2, rows: [rowOf(1, reviewer.object, newer), rowOf(2, 'gone', written({ name: 'gone' }))] }))
  objects.set(reviewer, { notes: 'mine' })
  t.like(take(pageOf({ after: 2, upto: 2 }, 2)), { rows: 0, more: true })
  t.is(tables.fact('epoch'), 2)
  t.like(cursor(), { after: 0, isSnapshot: true })
  t.deepEqual(tables.sendable(2_000_000_000, []), [], 'held until it is known what they rest on')
  take(pageOf({ upto: 1, rows: [rowOf(1, reviewer.object, old)] }, 2))
  const kept = tables.find(reviewer)
  t.is(digestOf(kept?.record.confirmed as ObjectState), digestOf(old))
  t.deepEqual(objects.get(reviewer).paths, { model: 'small', name: 'newer', notes: 'mine' })
  t.is(objects.get({ ...reviewer, object: 'gone' }).paths.name, 'gone')
  const again = tables.sendable(2_000_000_000, []).map(({ delta }) => [delta.object, delta.paths])
  t.deepEqual(again, [
    ['reviewer', { $life: true, name: 'newer', notes: 'mine' }],
    ['gone', { $life: true, name: 'gone' }],
  ])
  t.true(kept?.entries.every(({ delta }) => delta.actor.startsWith(deviceA) && delta.prev === null))
})
