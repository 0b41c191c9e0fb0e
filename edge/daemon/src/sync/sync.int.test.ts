import { chmodSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { kindsInState, limits } from '@lenserfight/schemas'
import { digestOf } from '@lenserfight/sync'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { asOwner, enter, halt, until } from '../gateway/_gateway.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { openStore } from '../store.ts'
import { reviewer } from './_machine.ts'
import { createSync } from './sync.ts'
import { createSyncTables } from './tables.ts'
import { edited } from './transitions.ts'

// Machines' objects over their own connections, against the gateway's processes.
let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { 'audit-chain': 0 } })
  await stack.whenReady()
})
test.after.always(() => stack?.stop())

const logger = createLogger({ service: 'test', level: 'silent' as never })
const timing = { resendFloorMs: 300, resendCeilingMs: 1_500, resignFloorMs: 50 }
const kinds = kindsInState('in', 'approved')
const long = 90_000
const hour = 3600 * 1000

interface MachineOptions {
  readonly file?: string
  /** Over whose connection, where that is not its own: its counter goes on where a restored copy's would betray it as a clone. */
  readonly over?: Awaited<ReturnType<typeof enter>>
  /** How often it reads the feed by itself. */
  readonly pullMs?: number
  readonly now?: () => number
}

/** A machine of a device, from its disk to its connection; it does nothing before it is told to. */
const machineOf = async (t: ExecutionContext, device: Signatory, options: MachineOptions = {}) => {
  const { file = join(mkdtempSync(join(tmpdir(), 'lf-sync-')), 'state.db'), pullMs = hour, now = Date.now } = options
  const store = openStore(file)
  const entered = options.over ?? (await enter(t, stack, device))
  const { client, receivers, changes } = entered
  const outbox = createOutbox({
    ...{ store, logger, timing },
    onEnded: ({ kind }) => sync.ended(kind),
  })
  const sync = createSync({
    ...{ store, outbox, logger, timing, pullMs, now, deviceId: () => device.kid, account: device.lenser, flushMs: 200 },
    ...{ onRefused: () => {}, onUnable: () => {} },
  })
  receivers.push(sync.receive, outbox.receive)
  changes.push(sync.changed)
  const connect = (): void => {
    outbox.attach({ kinds, sign: (body) => client.sign((body as { kind: never }).kind, body), publish: client.publish })
    sync.attach(client, kinds)
  }
  const disconnect = (): void => {
    sync.detach()
    outbox.detach()
  }
  t.teardown(() => {
    sync.close()
    outbox.close()
    store.close()
  })
  sync.resume()
  const tables = createSyncTables(store)
  /** Sends and reads all that there is. */
  const settle = async (): Promise<void> => {
    t.is((await sync.push(long)).pending, 0)
    t.true((await sync.pull(long)).done)
  }
  const confirmed = (name = reviewer) => tables.find(name)?.record.confirmed ?? null
  return { file, store, sync, tables, objects: sync.objects, connect, disconnect, settle, confirmed, device, entered }
}

const twoDevices = (): Promise<readonly [Signatory, Signatory]> =>
  asOwner(stack, async (db) => {
    const { lenser } = await makeAccount(db)
    return [await makeDevice(db, { lenser }), await makeDevice(db, { lenser })]
  })
const twoMachines = async (t: ExecutionContext, options: MachineOptions = {}) => {
  const [a, b] = await twoDevices()
  const machines = [await machineOf(t, a, options), await machineOf(t, b, options)] as const
  for (const { connect } of machines) connect()
  return machines
}

test.serial(
  'what two machines edit offline is at both once they are back, also two fields of one object',
  async (t) => {
    const [a, b] = await twoMachines(t)
    a.objects.set(reviewer, { name: 'Reviewer', model: 'small' })
    await a.settle()
    await b.settle()
    t.deepEqual(b.objects.get(reviewer).paths, { model: 'small', name: 'Reviewer' })
    for (const { disconnect } of [a, b]) disconnect()
    a.objects.set(reviewer, { name: 'Reader' })
    b.objects.set(reviewer, { model: 'large' })
    b.objects.set({ ...reviewer, object: 'writer' }, { name: 'Writer' })
    t.deepEqual([a.sync.pending(), b.sync.pending()], [1, 2])
    for (const { connect } of [a, b]) connect()
    for (const { settle } of [a, b, a]) await settle()
    for (const { objects, tables } of [a, b]) {
      t.deepEqual(objects.get(reviewer).paths, { model: 'large', name: 'Reader' })
      t.is(objects.list({ class: 'agent_config' }).objects.length, 2)
      t.is(tables.countKept(), 0, 'the feed brought back what was merged')
    }
    t.is(digestOf(a.confirmed() as never), digestOf(b.confirmed() as never))
    t.like(a.sync.status(undefined), { gateway_status: 'connected', pending: 0, diverged: [], last_code: null })
  },
)

test.serial(
  'an edit is at the other machine without its asking for it: the gateway tells that there is one',
  async (t) => {
    const [a, b] = await twoMachines(t)
    await b.sync.pull(long)
    a.objects.set(reviewer, { name: 'Reviewer' })
    await until(() => b.objects.list({ class: 'agent_config' }).objects.length === 1, 'the other machine’s object')
    t.is(b.objects.get(reviewer).paths.name, 'Reviewer')
  },
)

test.serial('rule 8: what is edited here while the feed is read stays, and joins what it brings', async (t) => {
  const [a, b] = await twoMachines(t)
  a.objects.set(reviewer, { name: 'Reviewer' })
  await a.settle()
  await b.settle()
  b.disconnect()
  b.objects.set(reviewer, { notes: 'mine' })
  a.objects.set(reviewer, { name: 'Reader', notes: 'theirs' })
  await a.settle()
  b.connect()
  await b.sync.pull(long)
  t.is(b.objects.get(reviewer).paths.name, 'Reader')
  for (const { settle } of [b, a]) await settle()
  t.deepEqual(a.objects.get(reviewer).paths, b.objects.get(reviewer).paths)
})

test.serial(
  'rule 9: a machine that was restored from a copy writes its edits again beside those that it had forgotten',
  async (t) => {
    const [device, other] = await twoDevices()
    const step = { class: 'workflow_definition', object: 'release' }
    const first = await machineOf(t, device)
    first.connect()
    first.objects.set(step, { name: 'Release', 'step/a/body': { run: 'make' } })
    await first.settle()
    const copy = join(mkdtempSync(join(tmpdir(), 'lf-sync-')), 'state.db')
    first.store.run(`VACUUM INTO '${copy}'`)
    first.objects.set(step, { 'step/a/body': { run: 'make all' } })
    await first.settle()
    first.disconnect()

    chmodSync(copy, 0o600)
    const second = await machineOf(t, device, { file: copy, over: first.entered })
    second.objects.set(step, { 'step/a/body': { run: 'make check' } })
    second.connect()
    await second.settle()
    const sides = second.objects.get(step).conflicts.flatMap((conflict) => conflict.sides.map(({ value }) => value))
    t.deepEqual(sides.map((value) => JSON.stringify(value)).sort(), ['{"run":"make all"}', '{"run":"make check"}'])
    const third = await machineOf(t, other)
    third.connect()
    await third.settle()
    t.deepEqual(
      third.objects.get(step).conflicts.map(({ path }) => path),
      ['step/a/body'],
    )
    t.is(second.tables.countKept(), 0)
  },
)

test.serial(
  'rule 14: after the database was restored, every machine writes again what it lost, and all converge',
  async (t) => {
    const [a, b] = await twoMachines(t)
    const { lenser } = a.device
    a.objects.set(reviewer, { name: 'Reviewer', model: 'small' })
    for (const { settle } of [a, b]) await settle()
    const tables = ['sync_objects', 'sync_changes', 'sync_heads', 'sync_checksums']
    await asOwner(stack, async (db) => {
      for (const name of tables)
        await db.query(`CREATE TABLE saved_${name} AS SELECT * FROM devices.${name} WHERE lenser_id = '${lenser}'`)
    })
    b.objects.set(reviewer, { model: 'large' })
    b.objects.set({ ...reviewer, object: 'writer' }, { name: 'Writer' })
    for (const { settle } of [b, a]) await settle()
    a.disconnect()
    a.objects.set(reviewer, { notes: 'offline' })
    await asOwner(stack, async (db) => {
      for (const name of tables) {
        await db.query(`DELETE FROM devices.${name} WHERE lenser_id = '${lenser}'`)
        await db.query(`INSERT INTO devices.${name} SELECT * FROM saved_${name}`)
        await db.query(`DROP TABLE saved_${name}`)
      }
      await db.query('SELECT devices.fn_epoch_raise()')
    })
    b.objects.set(reviewer, { tags: ['after'] })
    a.connect()
    for (const { settle } of [b, a, b, a]) await settle()
    for (const { objects, tables: kept } of [a, b]) {
      const { paths, conflicts } = objects.get(reviewer)
      t.deepEqual(paths, { model: 'large', name: 'Reviewer', notes: 'offline', tags: ['after'] })
      t.deepEqual(conflicts, [])
      t.is(objects.get({ ...reviewer, object: 'writer' }).paths.name, 'Writer')
      t.is(kept.countKept(), 0)
      t.is(kept.fact('epoch'), a.tables.fact('epoch'))
    }
    t.is(digestOf(a.confirmed() as never), digestOf(b.confirmed() as never))
  },
)

test.serial(
  'a class that needs coordination is flushed by who leads, and by the other once that has nothing left',
  async (t) => {
    const [a, b] = await twoMachines(t)
    const registry = { class: 'automation_registry_entry', object: 'nightly' }
    a.objects.set(registry, { 'entry/a': 1 })
    b.objects.set(registry, { 'entry/b': 2 })
    a.objects.set(reviewer, { name: 'not coordinated' })
    await Promise.all([a.sync.push(long), b.sync.push(long)])
    for (const { settle } of [a, b, a]) await settle()
    for (const { objects } of [a, b]) t.deepEqual(objects.get(registry).paths, { 'entry/a': 1, 'entry/b': 2 })
    t.deepEqual([a.tables.countKept(), b.tables.countKept()], [0, 0])
  },
)

test.serial('more than one push or page carries goes in several, in the order in which it was edited', async (t) => {
  const [a, b] = await twoMachines(t)
  a.disconnect()
  const count = limits.entriesPerPush * 2 + 7
  const name = (n: number) => ({ class: 'non_secret_pref', object: `pref-${n}` })
  for (let n = 0; n < count; n += 1) a.objects.set(name(n), { 'pref/value': 'x'.repeat(3_000) })
  a.objects.set(name(0), { 'pref/value': 'last' })
  a.connect()
  await a.settle()
  const pulled = await b.sync.pull(long)
  t.true(pulled.done)
  t.is(b.objects.list({ class: 'non_secret_pref' }).objects.length, count)
  t.is(b.objects.get(name(0)).paths['pref/value'], 'last')
  t.deepEqual(b.sync.status(undefined).diverged, [])
})

test.serial(
  'a checksum that differs makes a machine read the class anew, and what the gateway has not go',
  async (t) => {
    const [a, b] = await twoMachines(t)
    a.objects.set(reviewer, { name: 'Reviewer' })
    a.objects.set({ ...reviewer, object: 'writer' }, { name: 'Writer' })
    for (const { settle } of [a, b]) await settle()
    // What a bug or a broken disk may do to what this machine believes.
    b.store.run(`DELETE FROM objects WHERE object = 'writer'`)
    b.store.run(`INSERT INTO objects SELECT class, 'ghost', local, confirmed, digest, alive, conflicts, beside, incarnation, link, rebase,
    rebased_at, seen, not_before, refused_code, refused_detail, refused_at, changed_at FROM objects WHERE object = 'reviewer'`)
    a.objects.set(reviewer, { name: 'Reader' })
    await a.settle()
    await until(
      () => b.objects.list({ class: 'agent_config' }).objects.some(({ object }) => object === 'writer'),
      'the object that was lost',
    )
    await b.settle()
    t.deepEqual(
      b.objects.list({ class: 'agent_config' }).objects.map(({ object }) => object),
      ['reviewer', 'writer'],
    )
    t.deepEqual(b.sync.status(undefined).diverged, [])
    t.like(
      b.tables.cursors().find((cursor) => cursor.class === 'agent_config'),
      { isSnapshot: false, hasDiverged: false },
    )
  },
)

test.serial(
  'while nobody answers, edits keep their place and the machine says that it is degraded; then all goes on',
  async (t) => {
    const [a, b] = await twoMachines(t)
    for (const { settle } of [a, b]) await settle()
    const goOn = halt(t, stack, 'sync-applier')
    a.objects.set(reviewer, { name: 'Reviewer' })
    a.objects.set(reviewer, { name: 'Reader' })
    const reading = b.sync.pull(long)
    await until(() => a.sync.failing() && b.sync.failing(), 'both without an answer')
    for (const { sync } of [a, b])
      t.like(sync.status(undefined), { gateway_status: 'degraded', code: 'answer_timeout' })
    t.is(a.sync.pending(), 2)
    goOn()
    t.true((await reading).done)
    for (const { settle } of [a, b]) await settle()
    t.is(b.objects.get(reviewer).paths.name, 'Reader')
    for (const { sync } of [a, b])
      t.like(sync.status(undefined), { gateway_status: 'connected', code: null, pending: 0 })
  },
)

test.serial('an entry that the gateway refuses is set aside with its reason, and the rest is merged', async (t) => {
  const [a, b] = await twoMachines(t)
  a.disconnect()
  a.objects.set({ ...reviewer, object: 'before' }, { name: 'before' })
  // What a broken daemon may keep: its own check would refuse it.
  const poisoned = edited(undefined, reviewer, { paths: { no_such_field: 'x' } }, { deviceId: a.device.kid, now: 1 })
  a.tables.transaction(() => a.tables.save(undefined, poisoned))
  a.objects.set({ ...reviewer, object: 'later' }, { name: 'later' })
  a.connect()
  t.like(await a.sync.push(long), { applied: 2, refused: 1, pending: 0 })
  t.like(a.objects.get(reviewer).set_aside, { code: 'invalid_object' })
  t.like(a.sync.status(undefined), { last_code: 'invalid_object', gateway_status: 'connected' })
  await b.settle()
  t.deepEqual(
    b.objects.list({ class: 'agent_config' }).objects.map(({ object }) => object),
    ['before', 'later'],
  )
  t.false(a.objects.discard(reviewer).alive)
})

test.serial('SB-4: what the gateway decides comes down the same feed, and is read here and no more', async (t) => {
  const [a] = await twoMachines(t, { pullMs: 200 })
  const total = { class: 'xp_total', object: 'total' }
  await a.sync.pull(long)
  await until(() => a.objects.list({ class: 'xp_total' }).objects.length > 0, 'what the gateway decides')
  t.like(a.objects.get(total), { authority: 'cloud', alive: true, pending: 0, set_aside: null })
  t.throws(() => a.objects.set(total, { value: 1_000_000 }), { code: 'cloud_authoritative' })
  t.is(a.tables.countKept(), 0)
})
