import { limits, nilUuid } from '@lenserfight/schemas'
import { checksumOf, digestOf, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'
import { answer, append, type Db, fresh, type Named, type Page, pull, sealed, store } from './_feed.ts'

const world = useWorld(test)
const agents = 'agent_config'

/** An account with devices that may pull. */
const account = async (devices = 1) => {
  const { id: lenser } = await world().addLenser()
  return { lenser, devices: await Promise.all([...Array(devices)].map(() => world().addDevice(lenser, 'approved'))) }
}
/** Writes objects of an account and tells its feed of them. */
const write = async (lenser: string, objects: readonly string[], className = agents, db: Db = world().owner) => {
  const states = new Map<string, ObjectState>()
  for (const object of objects) {
    const state = fresh(className)
    states.set(object, state)
    await store(db, { lenser, class: className, object }, state)
  }
  await append(
    db,
    objects.map((object): Named => ({ lenser, class: className, object })),
  )
  return states
}
/** Writes objects of so many bytes. */
const writeLarge = async (lenser: string, sizes: Readonly<Record<string, number>>): Promise<void> => {
  for (const [object, size] of Object.entries(sizes)) {
    const state = { ...fresh(agents), paths: { notes: [{ actor: 'x', clock: {}, value: 'é'.repeat(size / 2) }] } }
    await store(world().owner, { lenser, class: agents, object }, state)
    await append(world().owner, [{ lenser, class: agents, object }])
  }
}
const objectsIn = (page: Page, className = agents) => page.classes[className]?.rows.map(({ object }) => object)
const watermark = (device: string, className = agents) =>
  world().one<{ prev: number; watermark: number }>(
    'SELECT prev::int, watermark::int FROM devices.sync_watermarks WHERE device_id = $1 AND class = $2',
    [device, className],
  )

test('SB-1: replay returns the same set, whatever was written since; asking from the watermark acknowledges', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  const states = await write(lenser, ['one', 'two'])
  const first = await pull(world(), { device, cursors: { [agents]: 0 } })
  t.deepEqual(objectsIn(first)?.sort(), ['one', 'two'])
  for (const row of first.classes[agents]?.rows ?? []) {
    const state = states.get(row.object) as ObjectState
    t.is(row.op, 'upsert')
    t.deepEqual(row.state, state)
    t.is(row.digest, digestOf(state))
  }
  t.deepEqual(await watermark(device), { prev: 0, watermark: 2 })

  await write(lenser, ['three'])
  const again = await pull(world(), { device, cursors: { [agents]: 0 } })
  t.deepEqual(again.classes[agents]?.rows, first.classes[agents]?.rows)
  t.like(again.classes[agents], { after: 0, upto: 2, more: true })
  const next = await pull(world(), { device, cursors: { [agents]: 2 } })
  t.deepEqual(objectsIn(next), ['three'])
  t.like(next.classes[agents], { after: 2, upto: 3, more: false })
  t.deepEqual(await watermark(device), { prev: 2, watermark: 3 })
  t.deepEqual(objectsIn(await pull(world(), { device, cursors: { [agents]: 3 } })), [])
})

test('SB-1: the watermark moves in the transaction that returns the rows: where that is lost, so is the move', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one'])
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await write(lenser, ['two'])
  const text = await sealed(world(), { device, cursors: { [agents]: 1 } })
  const client = await world().as('ltg_sync_applier').connect()
  await client.query('BEGIN')
  const [lost] = await answer(client, [text])
  await client.query('ROLLBACK')
  client.release()
  t.deepEqual(await watermark(device), { prev: 0, watermark: 1 })
  const [repeated] = await answer(world().as('ltg_sync_applier'), [text])
  t.deepEqual(repeated, lost)
  t.deepEqual(await watermark(device), { prev: 1, watermark: 2 })
})

test('SB-1: two pulls of one device at once are given the same rows', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await write(lenser, ['one', 'two'])
  const texts = await Promise.all([0, 1].map(() => sealed(world(), { device, cursors: { [agents]: 0 } })))
  const [slow, quick] = [await world().owner.connect(), await world().owner.connect()]
  try {
    await slow.query('BEGIN')
    const [first] = await answer(slow, [texts[0] as string])
    await write(lenser, ['three'])
    const second = answer(quick, [texts[1] as string])
    await slow.query('COMMIT')
    const [other] = await second
    t.deepEqual(other?.result?.classes[agents]?.rows, first?.result?.classes[agents]?.rows)
    t.deepEqual(await watermark(device), { prev: 0, watermark: 2 })
  } finally {
    slow.release()
    quick.release()
  }
})

test('SB-1: an older request that comes late takes nothing back', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await writeLarge(lenser, { one: 120_000 })
  const late = await sealed(world(), { device, cursors: { [agents]: 0 } })
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await writeLarge(lenser, { two: 120_000 })
  await pull(world(), { device, cursors: { [agents]: 1 } })
  await write(lenser, ['three'])
  const [again] = await answer(world().owner, [late])
  t.like(again?.result?.classes[agents], { upto: 1, more: true })
  t.deepEqual(objectsIn(await pull(world(), { device, cursors: { [agents]: 2 } })), ['three'])
})

test('mistake 9: a pull passes no row that a slow transaction commits late', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one'])
  const slow = await world().owner.connect()
  try {
    await slow.query('BEGIN')
    await write(lenser, ['slow'], agents, slow)
    const before = await pull(world(), { device, cursors: { [agents]: 0 } })
    t.deepEqual(objectsIn(before), ['one'])
    t.like(before.classes[agents], { upto: 1, more: false })
    // What follows the slow one waits for it, so it cannot be seen before it.
    const after = write(lenser, ['quick'])
    t.deepEqual(objectsIn(await pull(world(), { device, cursors: { [agents]: 1 } })), [])
    await slow.query('COMMIT')
    await after
    t.deepEqual(objectsIn(await pull(world(), { device, cursors: { [agents]: 1 } })), ['slow', 'quick'])
  } finally {
    await slow.query('ROLLBACK')
    slow.release()
  }
})

test('SB-3: a device is given its own account’s rows, and nobody else’s', async (t) => {
  const [a, b] = [await account(), await account()]
  const [mine, others] = [await write(a.lenser, ['same']), await write(b.lenser, ['same', 'secret'])]
  const page = await pull(world(), { device: a.devices[0] as string, cursors: { [agents]: 0 } })
  t.deepEqual(
    page.classes[agents]?.rows.map(({ object, digest }) => [object, digest]),
    [['same', digestOf(mine.get('same') as ObjectState)]],
  )
  const texts = await Promise.all(
    [...a.devices, ...b.devices].map((device) => sealed(world(), { device, cursors: { [agents]: 0 } })),
  )
  const [ours, theirs] = await answer(world().as('ltg_sync_applier'), texts)
  t.is(ours?.lenser, a.lenser)
  t.is(ours?.result?.classes[agents]?.rows.length, 1)
  t.is(theirs?.result?.classes[agents]?.rows.length, others.size)

  const text = await sealed(world(), { device: a.devices[0] as string, cursors: { [agents]: 0 } })
  for (const role of ['ltg_registrar', 'ltg_verifier', 'ltg_trust_evaluator', 'ltg_broker_auth', 'ltg_audit_chain']) {
    await refuses(t, () => answer(world().as(role), [text]), '42501', role)
  }
  for (const table of ['sync_changes', 'sync_objects', 'sync_watermarks', 'sync_heads']) {
    await refuses(t, () => world().as('ltg_sync_applier').query(`SELECT FROM devices.${table}`), '42501', table)
    await t.throwsAsync(world().asUser(b.lenser, (query) => query(`SELECT FROM devices.${table}`)))
  }
})

test('SB-3: what no verifier claimed, or a device may not send, is given nothing', async (t) => {
  const { lenser, devices } = await account(2)
  const [device, ill] = devices as [string, string]
  await write(lenser, ['one'])
  const unclaimed = await sealed(world(), { device, cursors: { [agents]: 0 } }, Date.now(), 'iat_window')
  await world().setLevel(ill, 'unhealthy')
  const texts = [unclaimed, await sealed(world(), { device: ill, cursors: { [agents]: 0 } })]
  const outcomes = await answer(world().as('ltg_sync_applier'), texts)
  t.deepEqual(
    outcomes.map(({ ok, code }) => [ok, code]),
    [
      [false, 'claim_expired'],
      [false, 'device_unhealthy'],
    ],
  )
  t.deepEqual(await world().rows('SELECT FROM devices.sync_watermarks WHERE device_id = ANY ($1)', [devices]), [])
})

/** Pulls page by page until there is no more; every page. */
const pullAll = async (device: string, classes: readonly string[]): Promise<Page[]> => {
  const cursors = Object.fromEntries(classes.map((name) => [name, 0]))
  const pages: Page[] = []
  for (let more = true; more; ) {
    const page = await pull(world(), { device, cursors })
    pages.push(page)
    for (const [name, { upto }] of Object.entries(page.classes)) cursors[name] = upto
    more = page.more
  }
  return pages
}

test('an answer has so many rows at most, of all classes together, and the next goes on where it ended', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await world().owner.query(
    `INSERT INTO devices.sync_objects (lenser_id, class, object, state, digest)
     SELECT $1, c.class, concat('object-', n), '{"clock": {"a": 1}, "paths": {}}',
            sha256(n::text::bytea)
       FROM generate_series(1, 700) n CROSS JOIN unnest($2::text[]) c (class)`,
    [lenser, [agents, 'lens_draft', 'runner_metadata']],
  )
  const names = await world().rows<Named>(
    'SELECT lenser_id AS lenser, class, object FROM devices.sync_objects WHERE lenser_id = $1',
    [lenser],
  )
  await append(world().owner, names)
  const pages = await pullAll(device, [agents, 'lens_draft', 'runner_metadata'])
  const counts = pages.map(({ classes }) => Object.values(classes).reduce((sum, { rows }) => sum + rows.length, 0))
  t.is(Math.max(...counts), limits.pullRows)
  t.is(pages.length, 3)
  const given = pages.flatMap(({ classes }) =>
    Object.entries(classes).flatMap(([name, { rows }]) => rows.map(({ object }) => `${name} ${object}`)),
  )
  t.is(given.length, 2100)
  t.is(new Set(given).size, 2100)
})

test('an answer has so many bytes at most, and one row however large it is', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await writeLarge(lenser, { a: 1000, b: limits.objectStateBytes - 1000, c: 90_000, d: 90_000, e: 90_000 })
  const pages = await pullAll(device, [agents])
  t.deepEqual(
    pages.map((page) => objectsIn(page)),
    [['a'], ['b'], ['c', 'd'], ['e']],
  )
  for (const page of pages) t.true(Buffer.byteLength(JSON.stringify(page)) < limits.envelopeBytes - 4096)
  t.deepEqual(
    pages.map(({ more }) => more),
    [true, true, true, false],
  )
})

test('the last page of a class carries its checksum; pages before it, and replays of less, none', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  const states = await write(lenser, ['one', 'two', 'three'])
  const { classes } = await pull(world(), { device, cursors: { [agents]: 0, lens_draft: 0 } })
  const all = [...states].map(([object, state]) => ({ object, digest: digestOf(state) }))
  t.deepEqual(classes[agents]?.checksum, { ...checksumOf(all) })
  t.deepEqual(classes.lens_draft?.checksum, { ...checksumOf([]) })
  await write(lenser, ['four'])
  t.is((await pull(world(), { device, cursors: { [agents]: 0 } })).classes[agents]?.checksum, undefined)
})

test('rule 14: cursors of another epoch, or of none, are worth nothing: all is read anew', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one'])
  await pull(world(), { device, cursors: { [agents]: 0 } })
  for (const epoch of [2, null]) {
    const page = await pull(world(), { device, epoch, cursors: { [agents]: 1, lens_draft: 0 } })
    t.is(page.epoch, 1)
    t.deepEqual(page.classes[agents], { code: 'resync_required' } as never)
    t.like(page.classes.lens_draft, { upto: 1, rows: [] })
  }
  t.deepEqual(objectsIn(await pull(world(), { device, epoch: null, cursors: { [agents]: 0 } })), ['one'])
})

test('rule 14: once the epoch is raised, what was given before counts for nothing, and no device holds up what is forgotten', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one', 'two'])
  await pull(world(), { device, cursors: { [agents]: 0 } })
  const texts = await Promise.all([
    sealed(world(), { device, cursors: { [agents]: 2 } }),
    sealed(world(), { device, epoch: 2, cursors: { [agents]: 2 } }),
    sealed(world(), { device, epoch: 2, cursors: { [agents]: 0 } }),
  ])
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    await client.query('SET LOCAL ROLE service_role')
    t.deepEqual((await client.query('SELECT devices.fn_epoch_raise() AS epoch')).rows, [{ epoch: 2 }])
    await client.query('RESET ROLE')
    const settled = await client.query('SELECT devices.fn_sync_settled($1, 2)::int AS settled', [lenser])
    t.deepEqual(settled.rows, [{ settled: 2 }])
    const pages = []
    for (const text of texts) pages.push((await answer(client, [text]))[0]?.result)
    t.deepEqual(
      pages.map((page) => [page?.epoch, page?.classes[agents]?.code, page?.classes[agents]?.rows?.length]),
      [
        [2, 'resync_required', undefined],
        [2, 'cursor_ahead', undefined],
        [2, undefined, 2],
      ],
    )
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
})

test('a cursor beyond what a device was given is refused, and moves nothing', async (t) => {
  const { lenser, devices } = await account(2)
  const [device, other] = devices as [string, string]
  await write(lenser, ['one'])
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await write(lenser, ['two'])
  t.is((await pull(world(), { device, cursors: { [agents]: 2 } })).classes[agents]?.code, 'cursor_ahead')
  t.is((await pull(world(), { device: other, cursors: { [agents]: 1 } })).classes[agents]?.code, 'cursor_ahead')
  t.deepEqual(await watermark(device), { prev: 0, watermark: 1 })
  t.deepEqual(objectsIn(await pull(world(), { device, cursors: { [agents]: 1 } })), ['two'])
})

test('classes that nobody knows, and those that never leave a machine, are refused each by its code', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one'])
  const { classes } = await pull(world(), { device, cursors: { byok_key: 0, no_such_class: 0, [agents]: 0 } })
  t.deepEqual(classes.byok_key, { code: 'local_only_class' } as never)
  t.deepEqual(await world().rows('SELECT FROM devices.sync_watermarks WHERE class = $1', ['byok_key']), [])
  t.deepEqual(classes.no_such_class, { code: 'unknown_class' } as never)
  t.is(classes[agents]?.rows.length, 1)
})

test('objects of global classes are everybody’s, from the feed that belongs to nobody', async (t) => {
  const { devices } = await account()
  const { devices: others } = await account()
  await write(nilUuid, ['model-1'], 'ai_catalog')
  for (const device of [...devices, ...others]) {
    t.deepEqual(objectsIn(await pull(world(), { device, cursors: { ai_catalog: 0, [agents]: 0 } }), 'ai_catalog'), [
      'model-1',
    ])
  }
})

test('what a device says of its own sync is kept, the newest by when the broker stored it', async (t) => {
  const { devices } = await account()
  const [device] = devices as [string]
  const now = Date.now()
  const said = (pending: number) => ({ pending, set_aside: 1, last_code: 'clock_ahead', diverged: [agents] })
  const texts = [
    await sealed(world(), { device, cursors: { [agents]: 0 }, report: said(2) }, now),
    await sealed(world(), { device, cursors: { [agents]: 0 }, report: said(7) }, now - 60_000),
  ]
  for (const text of texts) await answer(world().as('ltg_sync_applier'), [text])
  const { reported_at: at, ...kept } = await world().one<{ reported_at: Date }>(
    'SELECT * FROM devices.sync_reports WHERE device_id = $1',
    [device],
  )
  t.deepEqual<object, object>(kept, { device_id: device, ...said(2) })
  t.is(at.getTime(), now)
})

test('AU-2: a pull that gave rows is on record in its own transaction, once, with none of what they hold', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await write(lenser, ['one'])
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await pull(world(), { device, cursors: { [agents]: 0 } })
  await pull(world(), { device, cursors: { [agents]: 1 } })
  t.deepEqual(
    await world().rows('SELECT device_id, event_kind, payload FROM audit.pending WHERE lenser_id = $1 AND kid = $2', [
      lenser,
      device,
    ]),
    [
      {
        device_id: device,
        event_kind: 'sync_pull',
        payload: { ok: true, result: { epoch: 1, given: { [agents]: [0, 1] } } },
      },
    ],
  )
})

/** Rows of the feed that this connection read: by reading all of it, and by an index. */
const read = async (db: Db): Promise<{ whole: number; some: number }> => {
  const { rows } = await db.query(
    `SELECT seq_tup_read::int AS whole, idx_tup_fetch::int AS some
       FROM pg_stat_xact_user_tables WHERE relid = 'devices.sync_changes'::regclass`,
  )
  return rows[0] as { whole: number; some: number }
}

test('a pull reads what it gives, however many changes there are besides', async (t) => {
  const { lenser, devices } = await account()
  const [device] = devices as [string]
  await world().owner.query(
    `INSERT INTO devices.sync_changes (lenser_id, class, seq, object, op, state, digest)
     SELECT $1, CASE WHEN n % 10 = 0 THEN $2 ELSE 'lens_draft' END, n, concat('o', n), 'upsert', '{}', sha256('')
       FROM generate_series(1, 30000) n`,
    [lenser, agents],
  )
  await world().owner.query('INSERT INTO devices.sync_heads (lenser_id, seq) VALUES ($1, 30000)', [lenser])
  await world().owner.query(
    `INSERT INTO devices.sync_watermarks (device_id, class, lenser_id, epoch, prev, watermark)
     VALUES ($1, $2, $3, 1, 0, 29900)`,
    [device, agents, lenser],
  )
  const text = await sealed(world(), { device, cursors: { [agents]: 29_900 } })
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    // What this connection did before may still be counted.
    const before = await read(client)
    const [outcome] = await answer(client, [text])
    t.is(outcome?.result?.classes[agents]?.rows.length, 10)
    const after = await read(client)
    t.deepEqual({ whole: after.whole - before.whole, some: after.some - before.some }, { whole: 0, some: 10 })
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
})
