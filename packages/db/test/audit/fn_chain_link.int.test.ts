import test from 'ava'
import { useWorld } from '../_world.ts'
import { check, linkAll, record } from './_chains.ts'

const world = useWorld(test)

const pending = () => world().one<{ count: number }>('SELECT count(*)::int AS count FROM audit.pending')

test.serial(
  'records are linked in batches, each once, each account’s in the order in which they were left',
  async (t) => {
    const lensers = await Promise.all([1, 2, 3].map(() => world().addLenser()))
    for (let round = 0; round < 4; round += 1) for (const { id } of lensers) await record(world(), id, 5)
    t.is(await linkAll(world(), 7), 60)
    t.deepEqual(await pending(), { count: 0 })
    for (const { id } of lensers) {
      t.deepEqual(await check(world(), id), { ok: true, first_bad_index: null, entries: '20', reason: null })
      const { order } = await world().one<{ order: number[] }>(
        `SELECT array_agg((payload ->> 'n')::int ORDER BY seq) AS order FROM audit.hash_chains WHERE lenser_id = $1`,
        [id],
      )
      t.deepEqual(order, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    }
    t.is(await linkAll(world()), 0)
  },
)

test.serial('linkers and transitions at once: nothing twice, nothing lost, every chain whole', async (t) => {
  const lensers = await Promise.all([1, 2, 3, 4].map(() => world().addLenser()))
  for (const { id } of lensers) await record(world(), id, 100)
  const transitions = lensers.flatMap(({ id }) => [1, 2, 3].map(() => world().addDevice(id, 'revoked')))
  const links = [17, 23, 40].map((limit) => linkAll(world(), limit))
  await Promise.all([...links, ...transitions])
  await linkAll(world())
  for (const { id } of lensers) t.like(await check(world(), id), { ok: true, entries: '109' })
})

test.serial('statements about devices of several accounts, in opposite orders, wait and never deadlock', async (t) => {
  const [one, other] = [await world().addLenser(), await world().addLenser()]
  for (let round = 0; round < 10; round += 1) {
    const pairs = await Promise.all(
      [1, 2].map(async () => [await world().addDevice(one.id), await world().addDevice(other.id)]),
    )
    const revoke = (devices: string[]) =>
      world().rows(
        `UPDATE devices.registered_devices d SET trust_level = 'revoked'
           FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place) WHERE d.id = wanted.id`,
        [devices],
      )
    await t.notThrowsAsync(Promise.all([revoke(pairs[0] ?? []), revoke([...(pairs[1] ?? [])].reverse())]))
  }
  t.like(await check(world(), one.id), { ok: true, entries: '40' })
})

test.serial('a record that commits late, with an earlier number, is linked later and not passed over', async (t) => {
  const lenser = await world().addLenser()
  const late = await world().owner.connect()
  try {
    await late.query('BEGIN')
    await late.query(`SELECT audit.fn_record($1, NULL, NULL, NULL, 'late', NULL, '{}')`, [lenser.id])
    await record(world(), lenser.id, 3)
    t.is(await linkAll(world()), 3)
    await late.query('COMMIT')
  } finally {
    late.release()
  }
  t.is(await linkAll(world()), 1)
  t.like(await check(world(), lenser.id), { ok: true, entries: '4' })
})

test.serial('a linker that dies in the midst leaves everything for the next one', async (t) => {
  const lenser = await world().addLenser()
  await record(world(), lenser.id, 10)
  const dying = await world().owner.connect()
  await dying.query('BEGIN')
  await dying.query('SELECT audit.fn_chain_link(10)')
  dying.release(true)
  t.is(await linkAll(world()), 10)
  t.like(await check(world(), lenser.id), { ok: true, entries: '10' })
})
