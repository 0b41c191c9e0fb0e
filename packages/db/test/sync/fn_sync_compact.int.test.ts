import { checksumOf, digestOf, emptyState, join, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import fc from 'fast-check'
import { useWorld } from '../_world.ts'
import { append, type ClassPage, edited, fresh, pull, store, storedChecksum } from './_feed.ts'

const world = useWorld(test)
const agents = 'agent_config'
const drafts = 'lens_draft'

/** One feed and what is written to it. */
const createFeed = async () => {
  const { id: lenser } = await world().addLenser()
  const states = new Map<string, ObjectState>()
  const write = async (object: string, className = agents, change: string | null = crypto.randomUUID()) => {
    const key = `${className}/${object}`
    const state = edited(states.get(key) ?? fresh(className), className, change)
    states.set(key, state)
    const name = { lenser, class: className, object }
    // What was forgotten meanwhile begins anew.
    await store(world().owner, name, state)
    await append(world().owner, [name])
  }
  /** Compacts until there is nothing more to forget; how much it was. */
  const compact = async (limit = 1000): Promise<number> => {
    await world().owner.query(
      `UPDATE devices.sync_heads SET compacted_at = now() - interval '2 hours' WHERE lenser_id = $1`,
      [lenser],
    )
    let sum = 0
    for (let feed: string | null = lenser; feed !== null; ) {
      const { rows } = await world()
        .as('ltg_sync_applier')
        .query('SELECT lenser_id AS feed, forgotten FROM devices.fn_sync_compact($1)', [limit])
      feed = rows[0].feed
      sum += rows[0].forgotten
    }
    return sum
  }
  const changes = () =>
    world().rows<{ seq: number; object: string; op: string }>(
      'SELECT seq::int, object, op FROM devices.sync_changes WHERE lenser_id = $1 ORDER BY seq',
      [lenser],
    )
  const floor = async () =>
    (await world().one<{ floor: number }>('SELECT floor::int FROM devices.sync_heads WHERE lenser_id = $1', [lenser]))
      .floor
  return { lenser, write, compact, changes, floor, addDevice: () => world().addDevice(lenser, 'approved') }
}

/** A machine's store: what it holds and how far it has come. */
class Replica {
  readonly device: string
  readonly #classes: readonly string[]
  readonly objects = new Map<string, ObjectState>()
  readonly checksums = new Map<string, unknown>()
  cursors: Record<string, number> = {}
  resyncs = 0

  constructor(device: string, classes: readonly string[] = [agents]) {
    this.device = device
    this.#classes = classes
    for (const each of classes) this.cursors[each] = 0
  }
  #keep(className: string, { rows, upto, checksum }: ClassPage): void {
    for (const { object, op, state } of rows) {
      const key = `${className}/${object}`
      if (op === 'purge') this.objects.delete(key)
      else this.objects.set(key, join(this.objects.get(key) ?? emptyState, state as ObjectState))
    }
    this.cursors[className] = upto
    this.checksums.set(className, checksum)
  }
  /** What it holds of a class may be anything: it reads all anew. */
  #forget(className: string): void {
    this.resyncs += 1
    this.cursors[className] = 0
    for (const key of this.objects.keys()) if (key.startsWith(`${className}/`)) this.objects.delete(key)
  }
  /** One pull; unless the answer is lost, it is kept. */
  async pull(isLost = false): Promise<boolean> {
    const page = await pull(world(), { device: this.device, cursors: this.cursors })
    if (isLost) return true
    for (const [name, each] of Object.entries(page.classes)) {
      if (each.code === undefined) this.#keep(name, each)
      else this.#forget(name)
    }
    return page.more || this.#classes.some((each) => page.classes[each]?.code !== undefined)
  }
  async pullAll(): Promise<void> {
    while (await this.pull());
  }
  digests(className: string) {
    return [...this.objects]
      .filter(([key]) => key.startsWith(`${className}/`))
      .map(([key, state]) => ({ object: key.slice(className.length + 1), digest: digestOf(state) }))
      .sort((a, b) => (a.object < b.object ? -1 : 1))
  }
}
/** As if it had not pulled for so long. */
const fallSilent = (device: string, days: number) =>
  world().owner.query(
    `UPDATE devices.sync_watermarks SET pulled_at = pulled_at - $2 * interval '1 day' WHERE device_id = $1`,
    [device, days],
  )
const stored = (lenser: string, className: string) =>
  world().rows<{ object: string; digest: string }>(
    `SELECT object, devices.fn_b64url(digest) AS digest FROM devices.sync_objects
      WHERE lenser_id = $1 AND class = $2 ORDER BY object COLLATE "C"`,
    [lenser, className],
  )

test.serial('a change goes once all devices have a newer one; the newest of what lives stays', async (t) => {
  const feed = await createFeed()
  const [quick, slow] = [new Replica(await feed.addDevice()), new Replica(await feed.addDevice())]
  for (const object of ['one', 'two', 'one', 'one']) await feed.write(object)
  await quick.pullAll()
  await slow.pullAll()
  t.is(await feed.compact(), 0, 'what was given is not yet acknowledged')
  await feed.write('two')
  await quick.pullAll()
  await quick.pullAll()
  await slow.pullAll()
  t.is(await feed.compact(), 2)
  t.is(await feed.floor(), 4)
  t.deepEqual(
    (await feed.changes()).map(({ seq, object }) => [seq, object]),
    [
      [2, 'two'],
      [4, 'one'],
      [5, 'two'],
    ],
  )
  const late = new Replica(await feed.addDevice())
  await late.pullAll()
  t.deepEqual(late.digests(agents), await stored(feed.lenser, agents))
})

test.serial(
  'what is dead is forgotten once all devices saw it die, and they are told; then the telling too',
  async (t) => {
    const feed = await createFeed()
    const [quick, slow] = [new Replica(await feed.addDevice()), new Replica(await feed.addDevice())]
    for (const object of ['dead', 'alive']) await feed.write(object)
    await slow.pullAll()
    await feed.write('dead', agents, null)
    for (let n = 0; n < 2; n += 1) await quick.pullAll()
    await feed.compact()
    t.deepEqual(
      (await feed.changes()).map(({ op }) => op),
      ['upsert', 'upsert', 'delete'],
    )
    for (let n = 0; n < 2; n += 1) await slow.pullAll()
    t.true(slow.objects.has(`${agents}/dead`))
    await feed.compact()
    t.deepEqual(
      (await feed.changes()).map(({ op, object }) => [op, object]),
      [
        ['upsert', 'alive'],
        ['delete', 'dead'],
        ['purge', 'dead'],
      ],
    )
    for (const replica of [quick, slow]) {
      for (let n = 0; n < 2; n += 1) await replica.pullAll()
      t.deepEqual([...replica.objects.keys()], [`${agents}/alive`])
      t.deepEqual(replica.checksums.get(agents), { ...checksumOf(replica.digests(agents)) })
    }
    await feed.compact()
    t.deepEqual(
      (await feed.changes()).map(({ op, object }) => [op, object]),
      [['upsert', 'alive']],
    )
    t.is((await stored(feed.lenser, agents)).length, 1)
  },
)

test.serial('what a person has yet to decide is not forgotten', async (t) => {
  const feed = await createFeed()
  await feed.write('dead')
  await feed.write('dead', agents, null)
  const sides = [{ actor: 'a' }, { actor: 'b' }]
  await world().owner.query(
    `INSERT INTO devices.sync_conflicts (lenser_id, class, object, path, sides, sides_digest)
     SELECT $1, $2, 'dead', 'name', s, sha256(convert_to(s::text, 'UTF8')) FROM (SELECT $3::jsonb AS s) x`,
    [feed.lenser, agents, JSON.stringify(sides)],
  )
  await feed.compact()
  t.is((await stored(feed.lenser, agents)).length, 1)
  await world().owner.query('UPDATE devices.sync_conflicts SET closed_at = now() WHERE lenser_id = $1', [feed.lenser])
  await feed.compact()
  t.is((await stored(feed.lenser, agents)).length, 0)
})

test.serial('a device that was silent for 90 days holds up nothing, and reads everything anew', async (t) => {
  const feed = await createFeed()
  const [present, absent] = [new Replica(await feed.addDevice()), new Replica(await feed.addDevice())]
  for (const object of ['dead', 'alive']) await feed.write(object)
  await absent.pullAll()
  await absent.pullAll()
  await feed.write('dead', agents, null)
  await feed.write('alive')
  const settle = async () => {
    for (let n = 0; n < 2; n += 1) await present.pullAll()
    await feed.compact()
  }
  await fallSilent(absent.device, 89)
  for (let n = 0; n < 3; n += 1) await settle()
  t.is(await feed.floor(), 2, 'not yet so long')
  await fallSilent(absent.device, 2)
  for (let n = 0; n < 3; n += 1) await settle()
  t.deepEqual(
    (await feed.changes()).map(({ op, object }) => [op, object]),
    [['upsert', 'alive']],
  )
  await absent.pullAll()
  t.is(absent.resyncs, 1)
  t.deepEqual(absent.digests(agents), await stored(feed.lenser, agents))
})

test.serial('a device that is revoked holds up nothing, and does not come back', async (t) => {
  const feed = await createFeed()
  const [present, gone] = [new Replica(await feed.addDevice()), new Replica(await feed.addDevice())]
  await feed.write('one')
  await gone.pullAll()
  const settle = async () => {
    for (let n = 0; n < 2; n += 1) await present.pullAll()
    await feed.compact()
  }
  await feed.write('one')
  await settle()
  t.is((await feed.changes()).length, 2, 'it may still come for it')
  await world().owner.query(`UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`, [
    gone.device,
  ])
  await settle()
  t.is((await feed.changes()).length, 1)
})

test.serial('a whole reading that takes several pages goes on, though it began below the floor', async (t) => {
  const feed = await createFeed()
  const first = new Replica(await feed.addDevice())
  for (const object of ['a', 'b', 'c', 'd']) await feed.write(object, agents, 'é'.repeat(60_000))
  for (let n = 0; n < 2; n += 1) await first.pullAll()
  await feed.compact()
  t.is(await feed.floor(), 4)
  const late = new Replica(await feed.addDevice())
  t.true(await late.pull())
  t.is(late.objects.size, 1)
  await feed.compact()
  await late.pullAll()
  t.is(late.resyncs, 0)
  t.deepEqual(late.digests(agents), await stored(feed.lenser, agents))
})

test.serial('what died 90 days ago is forgotten though a device never came so far', async (t) => {
  const feed = await createFeed()
  const slow = new Replica(await feed.addDevice())
  await feed.write('dead')
  await slow.pullAll()
  await feed.write('dead', agents, null)
  // Nobody may change a change: written as it would have been then.
  await world().owner.query(
    `WITH old AS (DELETE FROM devices.sync_changes WHERE lenser_id = $1 AND op = 'delete' RETURNING *)
     INSERT INTO devices.sync_changes
     SELECT lenser_id, class, seq, object, op, state, digest, changed_at - interval '91 days' FROM old`,
    [feed.lenser],
  )
  await feed.compact()
  t.deepEqual(
    (await feed.changes()).map(({ op }) => op),
    ['upsert', 'delete', 'purge'],
  )
  await slow.pullAll()
  t.is(slow.objects.size, 0)
})

test.serial('whoever begins to read while things are forgotten holds that off', async (t) => {
  const feed = await createFeed()
  for (const object of ['one', 'one', 'two']) await feed.write(object)
  const reader = await feed.addDevice()
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    await client.query(`SELECT devices.fn_sync_lock_watermarks(ARRAY[ROW($1, $2, $3, 0)::devices.sync_cursor], 1)`, [
      reader,
      agents,
      feed.lenser,
    ])
    let isDone = false
    const compaction = feed.compact().finally(() => {
      isDone = true
    })
    for (let waits = false; !waits && !isDone; ) {
      const { count } = await world().one<{ count: number }>(
        `SELECT count(*)::int FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%fn_sync_compact%'
            AND datname = current_database()`,
      )
      waits = count > 0
    }
    await client.query('COMMIT')
    t.is(await compaction, 0)
    t.is(await feed.floor(), 0)
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
})

test.serial('two at once take different feeds, and neither waits for who writes to one', async (t) => {
  const feeds = await Promise.all([createFeed(), createFeed()])
  for (const { write } of feeds) for (let n = 0; n < 3; n += 1) await write('one')
  await world().owner.query(
    `UPDATE devices.sync_heads SET compacted_at = now() - interval '2 hours' WHERE lenser_id = ANY ($1)`,
    [feeds.map(({ lenser }) => lenser)],
  )
  const clients = await Promise.all([0, 1, 2].map(() => world().owner.connect()))
  try {
    const taken: (string | null)[] = []
    for (const client of clients) {
      await client.query('BEGIN')
      const { rows } = await client.query('SELECT lenser_id, forgotten FROM devices.fn_sync_compact(100)')
      taken.push(rows[0].lenser_id)
      if (taken.length < 3) t.is(rows[0].forgotten, 2)
    }
    t.deepEqual(taken.slice(0, 2).sort(), feeds.map(({ lenser }) => lenser).sort())
    t.is(taken[2], null)
  } finally {
    for (const client of clients) await client.query('ROLLBACK').then(() => client.release())
  }
})

type Step =
  | { readonly kind: 'write'; readonly object: number; readonly draft: boolean; readonly isDeleted: boolean }
  | { readonly kind: 'pull' | 'lose' | 'restore' | 'silent'; readonly replica: number }
  | { readonly kind: 'compact'; readonly limit: number }
  | { readonly kind: 'join' }
const replicaStep = (kind: 'pull' | 'lose' | 'restore' | 'silent') =>
  fc.record({ kind: fc.constant(kind), replica: fc.nat({ max: 3 }) })
const writeStep = fc.record({
  kind: fc.constant('write' as const),
  object: fc.nat({ max: 4 }),
  draft: fc.boolean(),
  isDeleted: fc.oneof({ weight: 2, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
})
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: writeStep },
    { weight: 6, arbitrary: replicaStep('pull') },
    { weight: 2, arbitrary: replicaStep('lose') },
    { weight: 1, arbitrary: replicaStep('restore') },
    { weight: 1, arbitrary: replicaStep('silent') },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('compact' as const), limit: fc.integer({ min: 1, max: 4 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('join' as const) }) },
  ),
  { minLength: 10, maxLength: 60 },
)

test.serial(
  'SB-1: whatever is written, pulled, lost, forgotten and restored, every device ends with exactly what there is',
  async (t) => {
    const classes = [agents, drafts]
    await t.notThrowsAsync(
      fc.assert(
        fc.asyncProperty(steps, async (history) => {
          const feed = await createFeed()
          const replicas = [new Replica(await feed.addDevice(), classes), new Replica(await feed.addDevice(), classes)]
          const backups = new Map<Replica, { objects: [string, ObjectState][]; cursors: Record<string, number> }>()
          const chosen = (n: number) => replicas[n % replicas.length] as Replica
          for (const step of history) {
            if (step.kind === 'write') {
              await feed.write(`o${step.object}`, step.draft ? drafts : agents, step.isDeleted ? null : undefined)
            } else if (step.kind === 'compact') await feed.compact(step.limit)
            else if (step.kind === 'join') replicas.push(new Replica(await feed.addDevice(), classes))
            else {
              const replica = chosen(step.replica)
              if (step.kind === 'silent') await fallSilent(replica.device, 91)
              else if (step.kind === 'restore') {
                // A backup of the machine that is no older than what it was given: its cursors are of then.
                const backup = backups.get(replica)
                if (backup !== undefined) {
                  replica.objects.clear()
                  for (const [key, state] of backup.objects) replica.objects.set(key, state)
                  replica.cursors = { ...backup.cursors }
                }
                backups.set(replica, { objects: [...replica.objects], cursors: { ...replica.cursors } })
              } else await replica.pull(step.kind === 'lose')
            }
          }
          for (const replica of replicas) {
            await replica.pullAll()
            for (const each of classes) {
              const expected = await stored(feed.lenser, each)
              t.deepEqual(replica.digests(each), expected)
              t.deepEqual(replica.checksums.get(each), { ...checksumOf(expected) })
              t.deepEqual((await storedChecksum(world().owner, feed.lenser, each)) ?? checksumOf([]), {
                ...checksumOf(expected),
              })
            }
          }
        }),
        { numRuns: 15 },
      ),
    )
  },
)
