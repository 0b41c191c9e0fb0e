import { randomBytes } from 'node:crypto'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'

const world = useWorld(test)

/** Logs so many edits of a new account, that many days old; the account. */
const log = async (count: number, days: number): Promise<{ id: string; user: string; device: string }> => {
  const { id, user } = await world().addLenser()
  const device = await world().addDevice(id, 'approved')
  await world().owner.query(
    `INSERT INTO devices.sync_outbox
       (lenser_id, device_id, object_class, object_id, op, payload, vclock, actor, n, link, digest, created_at)
     SELECT $1, $2, 'agent_config', 'a', 'upsert', jsonb_build_object('name', n), jsonb_build_object($3::text, n), $3, n, $4, $4,
            now() - $5::float8 * interval '1 day'
       FROM generate_series(1, $6::int) n`,
    [id, device, `${device}~1`, randomBytes(32), days, count],
  )
  return { id, user, device }
}
const counted = (lenser: string) =>
  world().one<{ kept: number; archived: number }>(
    `SELECT (SELECT count(*)::int FROM devices.sync_outbox WHERE lenser_id = $1) AS kept,
            (SELECT count(*)::int FROM audit.events WHERE lenser_id = $1) AS archived`,
    [lenser],
  )
const archive = async (limit: number): Promise<number> => {
  const { rows } = await world().as('ltg_sync_applier').query('SELECT devices.fn_sync_archive($1) AS moved', [limit])
  return (rows[0] as { moved: number }).moved
}
/** Moves what is old enough, a slice after the other. */
const archiveAll = async (limit: number): Promise<void> => {
  while ((await archive(limit)) > 0);
}

test.serial('retention: after 30 days an edit rests in audit.events as it was, younger ones stay', async (t) => {
  const { id, user, device } = await log(3, limits.syncOutboxKeepDays + 1)
  const young = await log(2, limits.syncOutboxKeepDays - 1)
  const before = await world().rows('SELECT * FROM devices.sync_outbox WHERE lenser_id = $1 ORDER BY id', [id])
  await archiveAll(100)
  t.deepEqual(await counted(id), { kept: 0, archived: 3 })
  t.deepEqual(await counted(young.id), { kept: 2, archived: 0 })
  const events = await world().rows<{
    id: string
    event_kind: string
    created_at: Date
    payload: Record<string, unknown>
  }>('SELECT id, event_kind, created_at, payload FROM audit.events WHERE lenser_id = $1 ORDER BY id', [id])
  t.deepEqual(
    events,
    before.map((row) => ({
      id: row.id as string,
      event_kind: 'sync.edit',
      created_at: row.created_at as Date,
      payload: {
        class: 'agent_config',
        object: 'a',
        op: 'upsert',
        payload: row.payload,
        vclock: row.vclock,
        actor: `${device}~1`,
        n: Number(row.n),
        link: (row.link as Buffer).toString('base64url'),
        digest: (row.digest as Buffer).toString('base64url'),
      },
    })),
  )
  // Its owner may read it, and nobody changes it.
  t.is((await world().asUser(user, (query) => query('SELECT id FROM audit.events'))).length, 3)
  t.is((await world().asUser(young.user, (query) => query('SELECT id FROM audit.events'))).length, 0)
  await refuses(t, () => world().owner.query('DELETE FROM audit.events WHERE lenser_id = $1', [id]), 'LT003')
})

test.serial('retention: it goes in slices, oldest first, and never more at once than is asked for', async (t) => {
  const later = await log(4, limits.syncOutboxKeepDays + 1)
  const { id } = await log(5, limits.syncOutboxKeepDays + 2)
  t.is(await archive(3), 3)
  t.deepEqual(await counted(id), { kept: 2, archived: 3 })
  t.is(await archive(4), 4)
  t.deepEqual(
    [await counted(id), await counted(later.id)],
    [
      { kept: 0, archived: 5 },
      { kept: 2, archived: 2 },
    ],
  )
  await archiveAll(100)
})

test.serial('retention: several at once move each edit once, and one that fails moves none', async (t) => {
  const { id } = await log(400, limits.syncOutboxKeepDays + 1)
  const failing = await world().owner.connect()
  try {
    await failing.query('BEGIN')
    await failing.query('SELECT devices.fn_sync_archive(50)')
    // Those are left to it.
    await Promise.all([1, 2, 3, 4].map(() => archiveAll(30)))
    t.deepEqual(await counted(id), { kept: 50, archived: 350 })
    await failing.query('ROLLBACK')
  } finally {
    failing.release()
  }
  t.deepEqual(await counted(id), { kept: 50, archived: 350 })
  await archiveAll(30)
  t.deepEqual(await counted(id), { kept: 0, archived: 400 })
})
