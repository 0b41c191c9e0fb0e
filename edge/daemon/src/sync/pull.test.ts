import { createLogger } from '@lenserfight/runtime'
import { CodedError, limits } from '@lenserfight/schemas'
import { apply, checksumOf, digestOf, edit, emptyState, type ObjectState } from '@lenserfight/sync'
import test, { type ExecutionContext } from 'ava'
import { defaultTiming } from '../outbox/decide.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { deviceA, deviceB, newMachine, reviewer } from './_machine.ts'
import { applyPage, beginSnapshot } from './apply-page.ts'
import { createPull } from './pull.ts'
import { type FeedPage, readFeedPage } from './pull-result.ts'
import { settlePush } from './settle-push.ts'
import { createSync } from './sync.ts'
import { renewed } from './transitions.ts'

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

const theirs = `${deviceB}~1`
const wrote = (write: object, paths: object = {}) => ({
  clock: { [theirs]: 1 },
  paths: { name: [{ actor: theirs, clock: { [theirs]: 1 }, value: 'v', ...write }], ...paths },
})
/** What no merge comes to. */
const lies = [
  wrote({ value: 'a\ud800' }),
  wrote({}, { notes: [] }),
  wrote({ clock: { [theirs]: 2 } }),
  wrote({ actor: `${deviceA}~1` }),
  wrote({ clock: {} }),
  { ...wrote({}), clock: { x: 1 } },
  { ...wrote({}), clock: { [theirs]: 2 ** 53 } },
]

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
    ...lies.map((lie) => ({ rows: [{ ...rowOf(2, 'a', state), state: lie }] })),
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

for (const [keeping, path] of [
  ['agent_config', 'notes'],
  ['workflow_definition', 'step/build/body'],
] as const) {
  const name = { class: keeping, object: 'x' }
  const values = ['v1', 'v2', 'v3', 'v4', 'v5']
  const page = (after: number, upto: number, states: readonly ObjectState[], epoch: number, more = false): FeedPage => {
    const rows = states.slice(after, upto).map((state, index) => rowOf(after + index + 1, name.object, state))
    return { epoch, more, classes: { [keeping]: { after, upto, more, rows } } }
  }
  /** A machine whose five edits are merged, with what the feed said after each. */
  const newWriter = () => {
    const reader = newReader()
    const { objects, tables, take } = reader
    const states = values.map((value, index) => {
      objects.set(name, { [path]: value })
      const { record, entries = [] } = tables.find(name) ?? {}
      tables.markUnderWay(entries, 'op')
      const push = { outcome: { ok: true, result: { entries: [{ status: 'applied' }] } }, count: 1 }
      tables.transaction(() => settlePush({ tables, by: { deviceId: deviceA, now: 1 }, retryAt: 1 }, 'op', push))
      const state = record?.local ?? emptyState
      take({ epoch: 1, more: false, classes: { [keeping]: pageRows(index, state) } })
      return state
    })
    return { ...reader, states }
  }
  const pageRows = (after: number, state: ObjectState) => ({
    ...{ after, upto: after + 1, more: false, rows: [rowOf(after + 1, name.object, state)] },
  })

  test(`rule 14: an edit is written anew on the newest of an object’s rows, not on its first: ${keeping}`, (t) => {
    const { objects, tables, take, states } = newWriter()
    t.is(tables.countKept(), 0)
    take(page(5, 5, states, 2))
    // The database is as it was when it had four of them.
    take(page(0, 2, states, 2, true))
    t.is(objects.get(name).paths[path], 'v5', 'and what is read meanwhile is what is here')
    t.deepEqual(tables.sendable(2_000_000_000, []), [])
    take(page(2, 4, states.slice(0, 4), 2))
    t.like(objects.get(name), { paths: { [path]: 'v5' }, conflicts: [], pending: 1 })
    t.is(digestOf(tables.find(name)?.record.confirmed as ObjectState), digestOf(states[3] as ObjectState))
  })

  test(`rule 14: what the gateway has all of is not written anew, however old its first row: ${keeping}`, (t) => {
    const { objects, take, states } = newWriter()
    take(page(5, 5, states, 2))
    take(page(0, 5, states, 2))
    t.like(objects.get(name), { paths: { [path]: 'v5' }, conflicts: [], pending: 0 })
  })

  test(`rule 7: an edit ahead of the gateway is written anew on the newest row of its object: ${keeping}`, (t) => {
    const { objects, tables, take, states } = newWriter()
    objects.set(name, { [path]: 'v6' })
    tables.markUnderWay(tables.sendable(2_000_000_000, []), 'op')
    const push = { outcome: { ok: true, result: { entries: [{ code: 'clock_ahead' }] } }, count: 1 }
    tables.transaction(() => settlePush({ tables, by: { deviceId: deviceA, now: 1 }, retryAt: 1 }, 'op', push))
    take(page(0, 5, states, 1))
    t.like(objects.get(name), { paths: { [path]: 'v6' }, conflicts: [], pending: 1 })
  })
}

test('rule 14: an object that the same reading shows purged is written anew on nothing', (t) => {
  const { take, objects, tables } = newReader()
  const state = written({ name: 'a' })
  take(pageOf({ upto: 1, rows: [rowOf(1, reviewer.object, state)] }))
  take(pageOf({ after: 1, upto: 1 }, 2))
  take(
    pageOf({ upto: 2, rows: [rowOf(1, reviewer.object, state), { seq: 2, object: reviewer.object, op: 'purge' }] }, 2),
  )
  t.is(tables.find(reviewer)?.record.confirmed, null)
  t.like(objects.get(reviewer), { paths: { name: 'a' }, pending: 1 })
})

test('rule 14: a machine enrolled anew while the gateway’s rows are read writes all that it has anew', (t) => {
  const { take, objects, tables } = newReader()
  const [old, by] = [written({ name: 'old' }), { deviceId: deviceB, now: 1_500_000_000 }]
  take(pageOf({ upto: 2, rows: [rowOf(2, reviewer.object, written({ name: 'new' }, old))] }))
  objects.set(reviewer, { notes: 'mine' })
  take(pageOf({ after: 2, upto: 2 }, 2))
  take(pageOf({ upto: 1, more: true, rows: [rowOf(1, reviewer.object, old)] }, 2))
  const before = tables.find(reviewer)
  if (before !== undefined) tables.save(before, renewed(before, by))
  take(pageOf({ after: 1, upto: 1 }, 2))
  t.deepEqual(objects.get(reviewer).paths, { name: 'new', notes: 'mine' })
})

test('rule 14: an answer of a former epoch that comes late takes nothing back', (t) => {
  const { take, objects, tables, cursor } = newReader()
  take(pageOf({ upto: 0 }))
  objects.set(reviewer, { name: 'mine' })
  take(pageOf({ upto: 0 }, 2))
  take(pageOf({ upto: 3 }, 2))
  const before = tables.find(reviewer)
  t.like(take(pageOf({ after: 3, upto: 4 }, 1)), { isFormer: true, more: false })
  t.is(tables.fact('epoch'), 2)
  t.like(cursor(), { after: 3, isSnapshot: false })
  t.deepEqual(tables.find(reviewer), before)
})

/** A machine that pulls from somebody who answers as told. */
const newPuller = (t: ExecutionContext) => {
  const machine = newMachine()
  const asked: string[] = []
  const codes: (string | null)[] = []
  let number = 0
  const pull = createPull({
    ...{ tables: machine.tables, deviceId: () => deviceA, report: () => ({}), everyMs: 3_600_000, onPulled: () => {} },
    ...{ timing: { resendFloorMs: 60_000, resendCeilingMs: 60_000, resignFloorMs: 1 }, onRefused: () => {} },
    ...{ logger: createLogger({ service: 'test', level: 'silent' as never }), onCode: (code) => codes.push(code) },
  })
  const sign = () => ({ digest: `${++number}`, bytes: Buffer.from('') })
  pull.attach({ sign: sign as never, publish: () => asked.push(`${number}`) })
  t.teardown(pull.close)
  const answer = (result: unknown, digest = asked.at(-1) ?? '') => {
    pull.receive([{ digest, ok: true, result: result as Record<string, unknown> }], 'sync-applier')
  }
  return { ...machine, pull, asked, codes, answer }
}

test('who answers with one beginning after another is asked no more often than who does not answer', (t) => {
  const { asked, codes, answer, tables } = newPuller(t)
  tables.setFact('epoch', 1)
  for (let epoch = 2; epoch < 200; epoch += 1) answer(pageOf({ upto: 1 }, epoch))
  t.true(asked.length < 50, `${asked.length}`)
  t.true(codes.includes('resync_required'))
})

test('a page that is none leaves all as it was, and the machine goes on', (t) => {
  const { asked, codes, answer, objects, pull } = newPuller(t)
  for (const state of lies)
    answer({
      epoch: 1,
      more: false,
      classes: { [className]: { after: 0, upto: 1, more: false, rows: [{ ...rowOf(1, 'a', written({})), state }] } },
    })
  t.deepEqual(objects.list({ deleted: true }).objects, [])
  t.is(codes.at(-1), 'internal_error')
  t.true(pull.isFailing())
  pull.restart()
  t.is(asked.length, 1, 'not at once')
})

test('an answer to what was asked before a class was to be read anew does not end that reading', (t) => {
  const { asked, answer, objects, tables, pull } = newPuller(t)
  const by = { deviceId: deviceA, now: 1 }
  applyPage({ tables, by, compared: new Map() }, pageOf({ upto: 1, rows: [rowOf(1, 'a', written({ name: 'a' }))] }))
  for (const cursor of tables.cursors()) beginSnapshot(tables, cursor)
  pull.restart()
  answer(pageOf({ upto: 0 }), asked[0])
  t.is(objects.list({}).objects.length, 1)
})

test('a disk that takes nothing does not end who pulls', (t) => {
  const { store, tables } = newMachine()
  const unable: string[] = []
  const logger = createLogger({ service: 'test', level: 'silent' as never })
  const outbox = createOutbox({ store, logger })
  const sync = createSync({
    ...{ store, outbox, logger, deviceId: () => deviceA, account: 'cat', flushMs: 1_000, pullMs: 1_000 },
    ...{ timing: defaultTiming, onRefused: () => {}, onUnable: (code) => unable.push(code) },
  })
  t.teardown(sync.close)
  sync.resume()
  store.run(`CREATE TRIGGER full BEFORE INSERT ON sync_facts BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
  const sign = () => {
    throw new CodedError('state_unwritable')
  }
  t.notThrows(() => sync.attach({ ask: sign, sign, publish: () => {} }, ['sync_pull']))
  t.is(sync.failing(), 'state_unwritable')
  t.true(unable.length > 0)
  t.is(tables.fact('last_code'), undefined)
})

test('rule 8: an object that was set aside shows what others wrote since, also where its class was read anew', (t) => {
  const { take, objects, tables } = newReader()
  const old = written({ name: 'old' })
  take(pageOf({ upto: 1, rows: [rowOf(1, reviewer.object, old)] }))
  objects.set(reviewer, { notes: 'refused' })
  tables.markUnderWay(tables.sendable(2_000_000_000, []), 'op')
  const push = { outcome: { ok: true, result: { entries: [{ code: 'object_limit' }] } }, count: 1 }
  tables.transaction(() => settlePush({ tables, by: { deviceId: deviceA, now: 1 }, retryAt: 1 }, 'op', push))
  take(pageOf({ after: 1, upto: 1 }, 2))
  take(pageOf({ upto: 2, rows: [rowOf(2, reviewer.object, written({ name: 'new' }, old))] }, 2))
  t.like(objects.get(reviewer), { paths: { name: 'new', notes: 'refused' }, pending: 0 })
  t.is(objects.get(reviewer).set_aside?.code, 'object_limit')
})
