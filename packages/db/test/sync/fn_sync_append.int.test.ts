import { checksumOf, digestOf, type ObjectState } from '@lenserfight/sync'
import test from 'ava'
import { useWorld } from '../_world.ts'
import { append, edited, fresh, type Named, store, storedChecksum } from './_feed.ts'

const world = useWorld(test)
const named = (lenser: string, object: string, className = 'agent_config'): Named => ({
  ...{ lenser, class: className, object },
})
const changesOf = (lenser: string) =>
  world().rows<{ seq: number; object: string; op: string }>(
    'SELECT seq::int AS seq, object, op FROM devices.sync_changes WHERE lenser_id = $1 ORDER BY seq',
    [lenser],
  )

test('rule 8: what changed is numbered without a gap, each feed by itself; what did not writes no row', async (t) => {
  const [a, b] = [await world().addLenser(), await world().addLenser()]
  const names = [named(a.id, 'one'), named(b.id, 'one'), named(a.id, 'two', 'lens_draft')]
  for (const name of names) await store(world().owner, name, fresh(name.class))
  const first = await append(world().owner, [...names, ...names])
  t.deepEqual(
    first.map(({ lenser, object, seq }) => [lenser, object, seq]).sort(),
    [
      [a.id, 'one', 1],
      [a.id, 'two', 2],
      [b.id, 'one', 1],
    ].sort(),
  )
  t.deepEqual(await append(world().owner, names), [], 'nothing changed since')

  const state = fresh('agent_config')
  await store(world().owner, named(a.id, 'one'), state)
  await append(world().owner, names)
  await store(world().owner, named(a.id, 'one'), edited(state, 'agent_config', null))
  await append(world().owner, names)
  t.deepEqual(await changesOf(a.id), [
    { seq: 1, object: 'one', op: 'upsert' },
    { seq: 2, object: 'two', op: 'upsert' },
    { seq: 3, object: 'one', op: 'upsert' },
    { seq: 4, object: 'one', op: 'delete' },
  ])
  t.deepEqual(
    await world().one(
      `SELECT h.seq::int AS head, o.seq::int AS newest, o.fed_digest = o.digest AS told
         FROM devices.sync_heads h JOIN devices.sync_objects o USING (lenser_id)
        WHERE h.lenser_id = $1 AND o.object = 'one'`,
      [a.id],
    ),
    { head: 4, newest: 4, told: true },
  )
})

test('what the cloud wrote is told of once who computes digests has seen it', async (t) => {
  const { id } = await world().addLenser()
  await store(world().owner, named(id, 'one'), fresh('agent_config'))
  await append(world().owner, [named(id, 'one')])
  await world().owner.query('UPDATE devices.sync_objects SET digest = NULL WHERE lenser_id = $1', [id])
  t.deepEqual(await append(world().owner, [named(id, 'one'), named(id, 'unknown')]), [])
  t.is((await changesOf(id)).length, 1)
})

test('the checksum of a class is the one that a machine computes, however its objects came to be as they are', async (t) => {
  const { id } = await world().addLenser()
  const states = new Map<string, ObjectState>()
  for (let round = 0; round < 6; round += 1) {
    const names = [...Array(5).keys()].filter((n) => (n + round) % 3 !== 0).map((n) => named(id, `object-${n}`))
    for (const name of names) {
      const before = states.get(name.object)
      const state =
        before === undefined ? fresh(name.class) : edited(before, name.class, round === 4 ? null : `${round}`)
      states.set(name.object, state)
      await store(world().owner, name, state)
    }
    await append(world().owner, names)
    const objects = [...states].map(([object, state]) => ({ object, digest: digestOf(state) }))
    t.deepEqual(await storedChecksum(world().owner, id, 'agent_config'), { ...checksumOf(objects) })
  }
})

test('mistake 9: who commits late is numbered late, so that no reader has passed its row', async (t) => {
  const { id } = await world().addLenser()
  const [slow, quick] = [await world().owner.connect(), await world().owner.connect()]
  try {
    await slow.query('BEGIN')
    await store(slow, named(id, 'slow'), fresh('agent_config'))
    await append(slow, [named(id, 'slow')])
    await quick.query('BEGIN')
    await store(quick, named(id, 'quick'), fresh('agent_config'))
    const { rows } = await quick.query('SELECT pg_backend_pid() AS pid')
    const second = append(quick, [named(id, 'quick')])
    // It waits for the head, not for time to pass.
    for (let waits = false; !waits; ) {
      const [row] = await world().rows<{ waits: boolean }>(
        `SELECT count(*) > 0 AS waits FROM pg_locks WHERE pid = $1 AND NOT granted`,
        [rows[0].pid],
      )
      waits = row?.waits ?? false
    }
    t.deepEqual(await changesOf(id), [], 'nobody sees the first')
    await slow.query('COMMIT')
    t.deepEqual(
      (await second).map(({ seq }) => seq),
      [2],
    )
    t.deepEqual(await changesOf(id), [{ seq: 1, object: 'slow', op: 'upsert' }])
    await quick.query('COMMIT')
    t.deepEqual(
      (await changesOf(id)).map(({ seq, object }) => [seq, object]),
      [
        [1, 'slow'],
        [2, 'quick'],
      ],
    )
  } finally {
    await Promise.all([slow, quick].map((client) => client.query('ROLLBACK').then(() => client.release())))
  }
})

test('several feeds in one transaction: whoever names them in whatever order, nobody waits for each other', async (t) => {
  const lensers = await Promise.all([...Array(4)].map(() => world().addLenser()))
  const ids = lensers.map(({ id }) => id)
  const write = async (n: number): Promise<void> => {
    const client = await world().owner.connect()
    try {
      for (let round = 0; round < 8; round += 1) {
        const order = n % 2 === 0 ? ids : [...ids].reverse()
        const names = order.map((id) => named(id, `by-${n}-${round}`))
        await client.query('BEGIN')
        for (const name of names) await store(client, name, fresh(name.class))
        await append(client, names)
        await client.query('COMMIT')
      }
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  }
  await t.notThrowsAsync(Promise.all([0, 1, 2, 3].map(write)))
  for (const id of ids) {
    t.deepEqual(
      (await changesOf(id)).map(({ seq }) => seq),
      [...Array(32).keys()].map((n) => n + 1),
    )
  }
})
