import { call, DataError, withTransaction } from '@lenserfight/db'
import { newUuidV7, readEnvelope } from '@lenserfight/envelope'
import { limits, type SyncEntry, type SyncPushBody } from '@lenserfight/schemas'
import { actorOf, digestOf, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { decideMerge, type Merged, type Said } from '../src/decide/merge.ts'
import type { Opened } from '../src/decide/opened.ts'
import type { Item } from '../src/decode.ts'
import { createMachine, createWorld, type Machine, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

// biome-ignore lint/suspicious/noExplicitAny: what is tampered with has every form
type Anything = any
const name = { class: 'workflow_definition', object: 'w' }
const body = 'step/s/body'
const entriesOf = (items: readonly Item[]) => (idx: number) => {
  const read = readEnvelope((items[idx - 1] as Item).text)
  return read.ok ? (read.envelope.body as unknown as SyncPushBody).entries : []
}

/** Applies as the applier's role does, with a word of its own put into what was merged. */
const applyWith = (
  items: readonly Item[],
  tamper: (merged: Anything, opened: Opened) => Anything,
): Promise<unknown[]> =>
  withTransaction(world.applier, async (connection) => {
    const texts = items.map(({ text }) => text)
    const [row] = await call<{ fn_sync_open: Opened }>(connection, 'devices.fn_sync_open', [texts])
    const opened = row?.fn_sync_open as Opened
    const merged: Merged = decideMerge(opened, entriesOf(items))
    return call(connection, 'devices.fn_sync_push', [texts, tamper(structuredClone(merged), opened)])
  })

/** An object with two sides, and a push of an edit that has seen one of them. */
const scene = async () => {
  const one = await world.addMachine()
  const { lenser } = one.device
  const two = await world.addMachine(lenser)
  await world.push(one, [one.set(name, { name: 'flow', description: 'd', [body]: 'base' })])
  two.absorb(name, one.state(name))
  await world.push(one, [one.set(name, { [body]: 'mine' })])
  await world.push(two, [two.set(name, { [body]: 'yours' })])
  const before = (await world.stored(lenser, name)) as ObjectState
  const entries = [
    one.set(name, { name: 'later', [body]: 'mine again' }),
    one.set({ ...name, object: 'x' }, { name: 'x' }),
  ]
  return { lenser, one, two, before, item: await world.sealPush(one.device, entries) }
}
const objectAt = (merged: Anything, object = 0): Anything => merged.objects[object]
const seal = (object: Anything): void => {
  object.digest = digestOf(object.state)
}

/** Lies about states, each told of an honest merge. */
const lies: Record<string, (merged: Anything) => void> = {
  'a value that nobody wrote': (m) => {
    objectAt(m).state.paths.name[0].value = 'invented'
  },
  'a value where nobody edited': (m) => {
    objectAt(m).state.paths.description[0].value = 'invented'
  },
  'an actor that did not write': (m) => {
    objectAt(m).state.paths.name[0].actor = actorOf(newUuidV7(), 1)
  },
  'a clock that nobody has': (m) => {
    objectAt(m).state.clock[actorOf(newUuidV7(), 1)] = 5
  },
  'a clock that counts on': (m) => {
    const { clock } = objectAt(m).state
    clock[Object.keys(clock)[0] as string] += 1
  },
  'a clock that forgets': (m) => {
    const { clock } = objectAt(m).state
    delete clock[Object.keys(clock)[0] as string]
  },
  'a write’s clock that counts on': (m) => {
    const { clock } = objectAt(m).state.paths.name[0]
    clock[Object.keys(clock)[0] as string] += 1
  },
  'a path dropped where nobody edited': (m) => {
    delete objectAt(m).state.paths.description
  },
  'a path dropped that was edited': (m) => {
    delete objectAt(m).state.paths.name
  },
  'a path emptied': (m) => {
    objectAt(m).state.paths.name = []
  },
  'a path that nobody wrote': (m) => {
    objectAt(m).state.paths['step/t/body'] = objectAt(m).state.paths.name
  },
  'a side dropped that nobody has seen': (m) => {
    objectAt(m).state.paths[body].pop()
  },
  'an edit left out': (m) => {
    objectAt(m).state.paths[body] = objectAt(m).state.paths[body].filter((w: Anything) => w.value !== 'mine again')
  },
  'the other side read': (m) => {
    objectAt(m).state.paths[body].reverse()
  },
  'a write twice': (m) => {
    objectAt(m).state.paths.name.push(objectAt(m).state.paths.name[0])
  },
  'more than a state': (m) => {
    objectAt(m).state.more = 1
  },
  'an object left out': (m) => {
    m.objects.pop()
  },
  'an object twice': (m) => {
    m.objects[1] = m.objects[0]
  },
  'an object more': (m) => {
    m.objects.push(m.objects[0])
  },
  'an object by no entry': (m) => {
    objectAt(m).entry = 7
  },
  'no digest': (m) => {
    delete objectAt(m).digest
  },
  'an entry left out': (m) => {
    m.items[0].entries.pop()
  },
  'a push left out': (m) => {
    m.items.pop()
  },
  'an entry twice': (m) => {
    m.items.push(m.items[0])
  },
  'a word that is none': (m) => {
    m.items[0].entries[0].status = 'perhaps'
  },
  'a code that is none': (m) => {
    m.items[0].entries[0] = { code: 'because' }
  },
  'an edit without its link': (m) => {
    delete m.items[0].entries[0].link
  },
  'a duplicate of what is not there': (m) => {
    m.items[0].entries[0] = { status: 'duplicate' }
    m.objects.shift()
  },
}

/** An object that one machine alone edits, and its next edit: nothing stands beside anything. */
const plainScene = async () => {
  const one = await world.addMachine()
  await world.push(one, [one.set(name, { name: 'flow', description: 'd', [body]: 'base' })])
  return { one, item: await world.sealPush(one.device, [one.set(name, { name: 'later' })]) }
}
const plainLies = [
  'a value that nobody wrote',
  'a value where nobody edited',
  'an actor that did not write',
  'a clock that nobody has',
  'a clock that counts on',
  'a clock that forgets',
  'a write’s clock that counts on',
  'a path dropped where nobody edited',
  'a path dropped that was edited',
  'a path emptied',
  'a path that nobody wrote',
  'a write twice',
  'more than a state',
]

test('law 5: nor does one get through that lies where one machine alone edits', async (t) => {
  const { one, item } = await plainScene()
  const before = await world.stored(one.device.lenser, name)
  for (const title of plainLies) {
    const tamper = (merged: Anything) => {
      lies[title]?.(merged)
      seal(objectAt(merged))
      return merged
    }
    const error = await t.throwsAsync(applyWith([item], tamper), { instanceOf: DataError }, title)
    t.is((error as DataError).sqlState, 'LT005', title)
    t.deepEqual(await world.stored(one.device.lenser, name), before, title)
  }
  await t.notThrowsAsync(applyWith([item], (merged) => merged))
  t.deepEqual(await world.stored(one.device.lenser, name), one.state(name))
})

test('law 5: an applier that lies about what was merged is refused by the database, and keeps nothing', async (t) => {
  for (const [title, lie] of Object.entries(lies)) {
    const { lenser, before, item } = await scene()
    const tamper = (merged: Anything) => {
      lie(merged)
      for (const object of merged.objects) if (object.digest !== undefined) seal(object)
      return merged
    }
    const error = await t.throwsAsync(applyWith([item], tamper), { instanceOf: DataError }, title)
    t.is((error as DataError).sqlState, 'LT005', title)
    t.deepEqual(await world.stored(lenser, name), before as never, title)
    // What it lied about is merged by one that does not.
    await t.notThrowsAsync(applyWith([item], (merged) => merged))
    t.is(await world.count('devices.sync_changes WHERE lenser_id = $1', [lenser]), 5, title)
  }
})

/** Says of a push’s one entry that it was applied, and makes the state that it would lead to. */
const insist =
  (entry: SyncEntry, { device }: Machine) =>
  (merged: Anything, opened: Opened) => {
    const actor = actorOf(device.id, entry.incarnation)
    const { state } = opened.objects[0] ?? { state: { clock: {}, paths: {} } }
    const write = (value: Anything) => [{ actor, clock: entry.clock, value }]
    const said: Said = { status: 'applied', link: digestOf(state) }
    const after = {
      clock: { ...state.clock, ...entry.clock },
      paths: {
        ...state.paths,
        ...Object.fromEntries(Object.entries(entry.paths).map(([path, value]) => [path, write(value)])),
      },
    }
    merged.items[0].entries = [said]
    merged.objects = [{ idx: 1, entry: 0, state: after, digest: digestOf(after) }]
    return merged
  }

test('rule 7 SB-4: the database admits no edit that may not be, whatever an applier says of it', async (t) => {
  const refuse = async (title: string, machine: Machine, entry: SyncEntry): Promise<void> => {
    const item = await world.sealPush(machine.device, [entry])
    const error = await t.throwsAsync(applyWith([item], insist(entry, machine)), { instanceOf: DataError }, title)
    t.is((error as DataError).sqlState, 'LT005', title)
  }
  const machine = await world.addMachine()
  const [first, second, third] = ['a', 'b', 'c'].map((value) => machine.set(name, { name: value })) as [
    SyncEntry,
    SyncEntry,
    SyncEntry,
  ]
  await refuse('a gap', machine, second)
  t.is(await world.stored(machine.device.lenser, name), undefined)
  await world.push(machine, [first])
  await refuse('the same once more', machine, first)
  await refuse('another under its number', machine, { ...first, paths: { $life: true, name: 'forked' } })
  await refuse('a gap in what is there', machine, third)
  await refuse('another past', machine, { ...second, prev: null })
  const ahead = { ...second, clock: { ...second.clock, [actorOf(newUuidV7(), 1)]: 1 } }
  await refuse('what nobody has done seen', machine, ahead)
  for (const className of ['policy', 'byok_key', 'automation_registry_entry', 'no_such_class']) {
    await refuse(className, machine, { ...createMachine(machine.device).set(name, { name: 'x' }), class: className })
  }
  const item = await world.sealPush(machine.device, [second])
  await t.notThrowsAsync(applyWith([item], insist(second, machine)), 'what may be is kept')
})

test('rule 11 SC-4: what conflicts there are follows from the objects, and an applier’s word neither opens nor closes one', async (t) => {
  const { lenser, one, two, item } = await scene()
  const open = async () =>
    (await world.conflicts(lenser))
      .filter(({ closed_at }) => closed_at === null)
      .map(({ class: of, path }) => [of, path])
  t.deepEqual(await open(), [[name.class, body]])
  await applyWith([item], (merged) => {
    for (const object of merged.objects) object.conflicts = []
    return merged
  })
  t.deepEqual(await open(), [[name.class, body]])
  const settled = { class: 'agent_config', object: 'a' }
  await world.push(one, [one.set(settled, { name: 'x' })])
  await applyWith([await world.sealPush(two.device, [two.set(settled, { name: 'y' })])], (merged) => {
    merged.objects[0].conflicts = [{ path: 'name', sides: merged.objects[0].state.paths.name }]
    return merged
  })
  t.deepEqual(await open(), [[name.class, body]])
})

test('object_limit: an applier that passes the bound is told to begin again', async (t) => {
  const machine = await world.addMachine()
  await world.push(machine, [machine.set(name, { name: 'x' })])
  await world.owner.query('UPDATE devices.sync_checksums SET objects = $2 WHERE lenser_id = $1', [
    machine.device.lenser,
    limits.objectsPerLenser,
  ])
  const entry = machine.set({ ...name, object: 'more' }, { name: 'x' })
  const item = await world.sealPush(machine.device, [entry])
  await t.throwsAsync(applyWith([item], insist(entry, machine)), { code: 'unavailable' })
})

test('SB-3 law 5: the applier’s role opens nothing that nobody verified, and reaches no table', async (t) => {
  const machine = await world.addMachine()
  const entry = machine.set(name, { name: 'x' })
  const unseen = await world.seal(machine.device, world.pushBody([entry]), { claim: false })
  const rows = (await applyWith([unseen], () => ({ items: [], objects: [] }))) as { idx: number; outcome: Anything }[]
  t.like(rows[0]?.outcome, { ok: false, code: 'claim_expired' })
  // To open and to keep nothing changes nothing that anybody reads.
  const item = await world.sealPush(machine.device, [entry])
  await call(world.applier, 'devices.fn_sync_open', [[item.text]])
  t.is(await world.count('devices.sync_changes WHERE lenser_id = $1', [machine.device.lenser]), 0)
  t.like((await world.apply([item]))[0], { ok: true })
  const tables = [
    'sync_objects',
    'sync_changes',
    'sync_heads',
    'sync_checksums',
    'sync_outbox',
    'sync_conflicts',
    'operations',
  ]
  for (const table of tables) {
    for (const verb of [`SELECT FROM devices.${table}`, `DELETE FROM devices.${table}`]) {
      await t.throwsAsync(world.applier.query(verb), { code: '42501' }, verb)
    }
  }
  await t.throwsAsync(world.applier.query('INSERT INTO audit.pending DEFAULT VALUES'), { code: '42501' })
  await t.throwsAsync(world.applier.query(`SELECT devices.fn_sync_append('{}')`), { code: '42501' })
})

test('SB-3: no other role pushes or pulls, whatever it has', async (t) => {
  const machine = await world.addMachine()
  const item = await world.sealPush(machine.device, [machine.set(name, { name: 'x' })])
  const roles = ['ltg_verifier', 'ltg_trust_evaluator', 'ltg_registrar', 'ltg_broker_auth', 'ltg_audit_chain']
  const calls = [
    ['SELECT devices.fn_sync_open($1)', [[item.text]]],
    ['SELECT devices.fn_sync_push($1, $2)', [[item.text], { items: [], objects: [] }]],
    ['SELECT devices.fn_sync_pull($1)', [[item.text]]],
  ] as const
  for (const role of ['anon', 'authenticated', 'service_role', ...roles]) {
    for (const [text, values] of calls) {
      const connection = await world.owner.connect()
      await connection.query('BEGIN')
      await connection.query(`SET LOCAL ROLE ${role}`)
      await t.throwsAsync(connection.query(text, [...values]), { code: '42501' }, `${role}: ${text}`)
      await connection.query('ROLLBACK')
      connection.release()
    }
  }
})
