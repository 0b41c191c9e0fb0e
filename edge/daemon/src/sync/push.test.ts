import { createLogger } from '@lenserfight/runtime'
import { CodedError, limits, type ReasonCode } from '@lenserfight/schemas'
import { countOf, entryOf } from '@lenserfight/sync'
import test, { type ExecutionContext } from 'ava'
import { defaultTiming } from '../outbox/decide.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { deviceA, deviceB, newMachine, reviewer } from './_machine.ts'
import { createPush, cutPush } from './push.ts'
import { decideEntry, decidePush, type EntryResult } from './push-result.ts'
import { settlePush } from './settle-push.ts'
import { createSync } from './sync.ts'
import type { OutboxEntry } from './types.ts'

const writer = { ...reviewer, object: 'writer' }
const applied: EntryResult = { status: 'applied' }
const refused = (code: ReasonCode, detail: string | null = null): EntryResult => ({ code, detail })

/** Pushes all that is pending and settles it by what is said of each entry. */
const pushed = ({ tables }: ReturnType<typeof newMachine>, said: readonly EntryResult[], now = 1_000_000) => {
  tables.markUnderWay(tables.sendable(now, []), 'op')
  const count = tables.carriedBy('op').length
  const push = { outcome: { ok: true, result: { entries: said } }, count }
  return tables.transaction(() =>
    settlePush({ tables, by: { deviceId: deviceA, now }, retryAt: now + 1_000 }, 'op', push),
  )
}

test('what the end of a push means follows from its outcome', (t) => {
  const of = (code: ReasonCode, count = 2) => decidePush({ ok: false, code }, count).do
  t.deepEqual(
    ['resync_required', 'malformed_body', 'op_expired', 'device_revoked'].map((code) => of(code as ReasonCode)),
    ['pull', 'halve', 'again', 'again'],
  )
  const result = { entries: [{ status: 'applied', seq: 1, digest: 'x' }, { code: 'clock_ahead' }] }
  t.deepEqual(decidePush({ ok: true, result }, 2), { do: 'judge', entries: [applied, refused('clock_ahead')] })
  for (const [entries, count] of [
    [result.entries, 3],
    [[{ code: 'no_such_code' }], 1],
    [[{}], 1],
    ['x', 1],
  ] as const)
    t.is(
      decidePush({ ok: true, result: { entries } }, count).do,
      'again',
      'what is no result says nothing of the entries',
    )
})

test('rules 7 and 9: what becomes of an object’s edits follows from what was said of one of them', (t) => {
  const at = { isFirst: true, wasRebased: false }
  t.is(decideEntry(applied, at), 'applied')
  t.is(decideEntry(refused('clock_reused'), at), 'renew')
  t.is(decideEntry(refused('clock_ahead'), at), 'rebase')
  t.is(decideEntry(refused('clock_ahead'), { ...at, wasRebased: true }), 'set_aside', 'not without end')
  t.is(decideEntry(refused('out_of_order'), at), 'rebase', 'what it awaits was merged once')
  t.is(decideEntry(refused('out_of_order'), { ...at, isFirst: false }), 'wait')
  t.is(decideEntry(refused('not_leader'), at), 'wait')
  for (const code of [
    'invalid_object',
    'object_too_large',
    'object_limit',
    'unknown_class',
    'cloud_authoritative',
  ] as const)
    t.is(decideEntry(refused(code), at), 'set_aside', code)
})

test('a push closes at so many entries and bytes, and one entry always goes', (t) => {
  const entry = (bytes: number) => ({ bytes }) as OutboxEntry
  const many = Array.from({ length: 150 }, () => entry(10))
  t.is(cutPush(many, limits.entriesPerPush).length, limits.entriesPerPush)
  t.is(cutPush(many, 3).length, 3)
  t.is(cutPush([entry(limits.pushBytes), entry(1)], 100).length, 1)
  t.is(cutPush([entry(limits.pushBytes - 200), entry(100), entry(100)], 100).length, 2)
  t.is(cutPush([entry(limits.pushBytes * 2)], 1).length, 1)
  t.deepEqual(cutPush([], 100), [])
})

test('a refused entry sets its object aside with the reason and holds up no other', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(reviewer, { name: 'a' })
  objects.set(writer, { name: 'w' })
  objects.set(reviewer, { name: 'b' })
  const settled = pushed(machine, [refused('invalid_object', 'name: no'), applied, refused('out_of_order')])
  t.like(settled, { applied: 1, refused: 2, isRebasing: false })
  t.deepEqual(objects.get(reviewer).set_aside, { code: 'invalid_object', detail: 'name: no', at: 1_000_000 })
  t.is(objects.get(reviewer).paths.name, 'b', 'what was edited is shown still')
  t.is(objects.get(writer).set_aside, null)
  t.deepEqual(tables.sendable(2_000_000, []), [])
  objects.set(writer, { name: 'more' })
  t.is(tables.sendable(2_000_000, []).length, 1)
})

test('an object that was set aside is edited again with all that the gateway has not, as a new writer', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(reviewer, { name: 'a', model: 'm' })
  pushed(machine, [refused('invalid_object')])
  t.like(objects.set(reviewer, { name: 'b' }), { set_aside: null, pending: 1, paths: { name: 'b', model: 'm' } })
  const [entry] = tables.sendable(2_000_000, [])
  const { incarnation, paths, prev, clock } = entryOf(entry?.delta as never)
  t.deepEqual([paths, prev], [{ $life: true, name: 'b', model: 'm' }, null])
  t.true(incarnation > 1)
  t.deepEqual(clock, { [`${deviceA}~${incarnation}`]: 1 })
})

test('what was set aside is given up for what the gateway has, or for nothing', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(reviewer, { name: 'a' })
  pushed(machine, [applied])
  objects.set(reviewer, { name: 'b' })
  objects.set(writer, { name: 'w' })
  pushed(machine, [refused('invalid_object'), refused('object_limit')])
  t.like(objects.discard(reviewer), { set_aside: null, paths: { name: 'a' } })
  t.like(objects.discard(writer), { alive: false, paths: {} })
  t.is(tables.find(writer), undefined)
  t.deepEqual(tables.setAside(), [])
})

test('an entry that waits keeps its place, and those of other objects go on', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(reviewer, { name: 'a' })
  objects.set(writer, { name: 'w' })
  pushed(machine, [refused('not_leader'), refused('object_limit')])
  t.deepEqual(tables.sendable(1_000_000, []), [])
  t.deepEqual(
    tables.sendable(1_001_000, []).map(({ delta }) => delta.object),
    ['reviewer'],
  )
  t.is(objects.get(reviewer).set_aside, null)
})

test('what waits is sent again also where its time was kept by a clock that was ahead', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  const year = 365 * 86_400_000
  objects.set(reviewer, { name: 'a' })
  pushed(machine, [refused('rate_limited')], 1_000_000 + year)
  t.is(tables.sendable(1_000_000, []).length, 1)
  t.is(tables.sendable(1_000_000 + year, []).length, 0)
  t.is(tables.sendable(1_001_000 + year, []).length, 1)
})

test('an object of which the gateway has too much to do at once waits with all its edits, in their order', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(writer, { name: 'w' })
  objects.set(reviewer, { name: 'a' })
  objects.set(reviewer, { name: 'b' })
  pushed(machine, [applied, refused('rate_limited'), refused('out_of_order')])
  t.is(objects.get(reviewer).set_aside, null)
  t.deepEqual(tables.sendable(1_000_999, []), [])
  t.deepEqual(
    tables.sendable(1_001_000, []).map(({ delta }) => delta.paths.name),
    ['a', 'b'],
  )
})

test('an edit that no envelope carries is set aside, and those of other objects go on', async (t) => {
  const { store, tables, objects } = newMachine()
  const logger = createLogger({ service: 'test', level: 'silent' as never })
  const check = (body: object): void => {
    if (JSON.stringify(body).includes('poison')) throw new CodedError('malformed_envelope')
  }
  const outbox = createOutbox({ store, logger, check })
  const push = createPush({
    ...{ tables, outbox, logger, leader: { fence: () => 1, look: () => {} }, deviceId: () => deviceA, flushMs: 60_000 },
    ...{ timing: defaultTiming, onCode: () => {}, onPullNeeded: () => {} },
  })
  t.teardown(push.close)
  tables.setFact('epoch', 1)
  objects.set(reviewer, { name: 'poison' })
  objects.set(writer, { name: 'w' })
  push.attach()
  await push.flush(0)
  t.like(objects.get(reviewer).set_aside, { code: 'malformed_envelope' })
  t.deepEqual(
    tables.underWay().flatMap((opId) => tables.carriedBy(opId).map(({ object }) => object)),
    ['writer'],
  )
})

test('rule 9: unconfirmed edits are written again in their order by a new writer, on what each had seen', (t) => {
  const machine = newMachine()
  const { objects, tables } = machine
  objects.set(reviewer, { name: 'a' })
  objects.set(reviewer, { name: 'b', model: 'm' })
  const before = tables.find(reviewer)
  pushed(machine, [refused('clock_reused'), refused('clock_reused')])
  const again = tables.sendable(2_000_000, []).map(({ delta }) => delta)
  t.deepEqual(
    again.map(({ paths }) => paths),
    before?.entries.map(({ delta }) => delta.paths),
  )
  const [actor] = again.map((delta) => delta.actor)
  t.deepEqual(
    again.map(({ clock }) => countOf(clock, actor as string)),
    [1, 2],
  )
  t.false(
    again.some(({ clock }) => (before?.entries[0]?.delta.actor ?? '') in clock),
    'nothing of the writer that it was not',
  )
  t.deepEqual(objects.get(reviewer).paths, { model: 'm', name: 'b' })
})

/** A disk, and the daemons that work on it one after another. */
const newDisk = (t: ExecutionContext) => {
  const { store, tables } = newMachine()
  const logger = createLogger({ service: 'test', level: 'silent' as never })
  const as = (device: string, account = 'cat') => {
    const outbox = createOutbox({ store, logger })
    const sync = createSync({
      ...{ store, outbox, logger, deviceId: () => device, account, flushMs: 1_000, pullMs: 1_000 },
      ...{ timing: defaultTiming, onRefused: () => {}, onUnable: () => {} },
    })
    t.teardown(sync.close)
    sync.resume()
    return { outbox, objects: sync.objects }
  }
  return { store, tables, as }
}

test('a machine whose device was enrolled anew writes again in the new one’s name what the other had not sent', (t) => {
  const { tables, as } = newDisk(t)
  const former = as(deviceA)
  former.objects.set(reviewer, { name: 'a' })
  former.objects.set(writer, { name: 'w' })
  const { opId } = former.outbox.enqueue({ kid: deviceA, kind: 'sync_push', body: { entries: [] } })
  tables.markUnderWay(tables.sendable(Date.now(), []).slice(0, 1), opId)
  former.outbox.failAll('device_revoked', 'this machine was enrolled anew', deviceB)
  const { objects } = as(deviceB)
  const entries = tables.sendable(Date.now(), []).map(({ delta }) => delta)
  t.deepEqual(entries.map(({ object }) => object).sort(), ['reviewer', 'writer'], 'also those under way')
  for (const { actor, clock } of entries) {
    t.true(actor.startsWith(`${deviceB}~`))
    t.deepEqual(Object.keys(clock), [actor])
  }
  t.is(former.outbox.find(opId), undefined)
  t.like(objects.set(reviewer, { model: 'm' }), { pending: 2, paths: { name: 'a', model: 'm' } })
})

test('what one account edited on a machine is nothing that another account on it reads, or sends', (t) => {
  const { store, tables, as } = newDisk(t)
  const cat = as(deviceA)
  cat.objects.set(reviewer, { name: 'a' })
  cat.objects.set(writer, { name: 'w' })
  const { opId } = cat.outbox.enqueue({ kid: deviceA, kind: 'sync_push', body: { entries: [] } })
  tables.markUnderWay(tables.sendable(Date.now(), []).slice(0, 1), opId)
  tables.setFact('epoch', 1)
  as(deviceA)
  t.is(tables.pending().count, 2, 'of the same account all stays')
  cat.outbox.failAll('device_revoked', 'this machine was enrolled anew', deviceB)
  const dan = as(deviceB, 'dan')
  t.deepEqual(dan.objects.list({ deleted: true }).objects, [])
  t.is(tables.countKept(), 0)
  t.is(tables.fact('epoch'), undefined)
  t.is(dan.outbox.find(opId), undefined, 'nor is the push that carried some of it')
  t.deepEqual(
    tables.cursors().filter(({ after }) => after > 0),
    [],
  )
  dan.objects.set(reviewer, { name: 'd' })
  t.deepEqual(as(deviceB, 'dan').objects.get(reviewer).paths, { name: 'd' })
  t.is(store.get<{ n: number }>('SELECT count(*) AS n FROM objects')?.n, 1)
})
