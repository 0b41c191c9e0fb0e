import { randomBytes } from 'node:crypto'
import { type DeviceLevel, deviceLevels, deviceTransitions } from '@lenserfight/schemas'
import test from 'ava'
import { refuses, useWorld } from '../_world.ts'

const world = useWorld(test)

const insert = `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
  VALUES ($1, $2, 'server', 'linux', $3)`

test('DR-1: INSERT from authenticated is refused, and UPDATE and DELETE', async (t) => {
  const lenser = await world().addLenser()
  const id = await world().addDevice(lenser.id)
  const statements: [string, unknown[]][] = [
    [insert, [lenser.id, 'mine', randomBytes(32)]],
    [`UPDATE devices.registered_devices SET trust_level = 'approved' WHERE id = $1`, [id]],
    ['DELETE FROM devices.registered_devices WHERE id = $1', [id]],
  ]
  for (const [text, values] of statements) {
    await refuses(t, () => world().asUser(lenser.user, (query) => query(text, values)), '42501')
  }
})

test('people read their own devices, profile and chain, and nobody else’s', async (t) => {
  const [one, other] = [await world().addLenser(), await world().addLenser()]
  const id = await world().addDevice(one.id)
  await world().addDevice(other.id)
  const read = (user: string, text: string) => world().asUser<Record<string, unknown>>(user, (query) => query(text))
  t.deepEqual(await read(one.user, 'SELECT id FROM devices.registered_devices'), [{ id }])
  t.deepEqual(await read(one.user, 'SELECT id FROM lensers.profiles'), [{ id: one.id }])
  t.deepEqual(await read(one.user, 'SELECT DISTINCT lenser_id FROM audit.hash_chains'), [{ lenser_id: one.id }])
  await refuses(t, () => read(one.user, 'SELECT FROM lensers.sessions'), '42501')
  await refuses(t, () => read(one.user, 'SELECT FROM devices.operations'), '42501')
})

test('DR-2: a new device is pending, and none can be made otherwise', async (t) => {
  const lenser = await world().addLenser()
  t.deepEqual(await world().levelOf(await world().addDevice(lenser.id)), {
    trust_level: 'pending',
    earlier_level: null,
  })
  for (const level of deviceLevels.filter((one) => one !== 'pending')) {
    const made = () =>
      world().rows(
        `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, public_key, trust_level)
         VALUES ($1, $2, 'ci', 'linux', $3, $2)`,
        [lenser.id, level, randomBytes(32)],
      )
    await refuses(t, made, 'LT002')
  }
})

test('DR-3: a device has an account that exists, and keeps it', async (t) => {
  const [lenser, other] = [await world().addLenser(), await world().addLenser()]
  const id = await world().addDevice(lenser.id)
  await refuses(t, () => world().rows(insert, [null, 'nobody’s', randomBytes(32)]), '23502')
  await refuses(t, () => world().rows(insert, [randomUuid(), 'a stranger’s', randomBytes(32)]), '23503')
  const move = 'UPDATE devices.registered_devices SET lenser_id = $2 WHERE id = $1'
  await refuses(t, () => world().rows(move, [id, other.id]), 'LT003')
})

const randomUuid = () => crypto.randomUUID()

test('DR-4: a name is one device’s of an account, and free again once that is revoked, also if blocked later', async (t) => {
  const [lenser, other] = [await world().addLenser(), await world().addLenser()]
  const register = (owner: string) => world().rows(`${insert} RETURNING id`, [owner, 'laptop', randomBytes(32)])
  const [first] = (await register(lenser.id)) as { id: string }[]
  await refuses(t, () => register(lenser.id), '23505')
  await t.notThrowsAsync(() => register(other.id))
  await world().setLevel(first?.id ?? '', 'revoked')
  await t.notThrowsAsync(() => register(lenser.id))
  await t.notThrowsAsync(() => world().setLevel(first?.id ?? '', 'blocked'))
})

test('DR-5: a pending device may be without a public key, from approved on none is', async (t) => {
  const lenser = await world().addLenser()
  const id = await world().addDevice(lenser.id)
  const set = (level: string, key: Buffer | null) =>
    world().rows('UPDATE devices.registered_devices SET trust_level = $2, public_key = $3 WHERE id = $1', [
      id,
      level,
      key,
    ])
  await refuses(t, () => set('approved', null), '23514')
  await refuses(t, () => set('approved', randomBytes(31)), '23514')
  await t.notThrowsAsync(() => set('approved', randomBytes(32)))
  for (const level of ['approved', 'trusted', 'offline', 'unhealthy']) await refuses(t, () => set(level, null), '23514')
})

test('every pair of levels that is no transition is refused, and every transition is possible', async (t) => {
  const lenser = await world().addLenser()
  // What a device must have been to return to: offline, unhealthy and blocked remember it.
  const before: Partial<Record<`${DeviceLevel} ${DeviceLevel}`, readonly DeviceLevel[]>> = {
    'offline trusted': ['approved', 'trusted', 'offline'],
    'unhealthy trusted': ['approved', 'trusted', 'unhealthy'],
    'blocked pending': ['blocked'],
    'blocked trusted': ['approved', 'trusted', 'blocked'],
    'blocked offline': ['approved', 'offline', 'blocked'],
    'blocked unhealthy': ['approved', 'unhealthy', 'blocked'],
    'blocked revoked': ['approved', 'revoked', 'blocked'],
  }
  for (const from of deviceLevels) {
    for (const to of deviceLevels) {
      if (from === to) continue
      const way = before[`${from} ${to}`]
      const id = await world().addDevice(lenser.id, way === undefined ? from : 'pending')
      for (const step of way ?? []) await world().setLevel(id, step)
      const isTransition = deviceTransitions.some((one) => one.from === from && one.to === to)
      if (isTransition) await t.notThrowsAsync(() => world().setLevel(id, to), `${from} → ${to}`)
      else await refuses(t, () => world().setLevel(id, to), 'LT002')
      t.is((await world().levelOf(id)).trust_level, isTransition ? to : from)
    }
  }
})

test('offline and unhealthy lead back to the level that was left, never to a higher one', async (t) => {
  const lenser = await world().addLenser()
  for (const [left, not] of [
    ['approved', 'trusted'],
    ['trusted', 'approved'],
  ] as const) {
    for (const through of [['offline'], ['unhealthy'], ['offline', 'unhealthy'], ['unhealthy', 'offline']]) {
      const id = await world().addDevice(lenser.id, left)
      for (const step of through) await world().setLevel(id, step)
      t.is((await world().levelOf(id)).earlier_level, left)
      await refuses(t, () => world().setLevel(id, not), 'LT002')
      await world().setLevel(id, left)
      t.deepEqual(await world().levelOf(id), { trust_level: left, earlier_level: null })
    }
  }
})

test('blocked leads back to the level that was left alone: a revoked device stays revoked', async (t) => {
  const lenser = await world().addLenser()
  for (const left of deviceLevels.filter((level) => level !== 'blocked')) {
    const id = await world().addDevice(lenser.id, left)
    await world().setLevel(id, 'blocked')
    for (const other of deviceLevels.filter((level) => level !== 'blocked' && level !== left)) {
      await refuses(t, () => world().setLevel(id, other), 'LT002')
    }
    await world().setLevel(id, left)
    t.is((await world().levelOf(id)).trust_level, left)
  }
})

test('what a device returns to cannot be written by hand, nor the time of its revocation', async (t) => {
  const lenser = await world().addLenser()
  const id = await world().addDevice(lenser.id, 'offline')
  const set = (assignment: string) => () =>
    world().rows(`UPDATE devices.registered_devices SET ${assignment} WHERE id = $1`, [id])
  await refuses(t, set(`earlier_level = 'trusted'`), 'LT002')
  await refuses(t, set('revoked_at = now()'), 'LT002')
  await world().setLevel(id, 'revoked')
  await refuses(t, set('revoked_at = NULL'), 'LT002')
  await t.notThrowsAsync(set(`daemon_version = '1.0.0', last_heartbeat_at = now()`))
})

// Alone: what the others wait for would hold it up too.
test.serial('a change of level waits for whoever acts on the level, a heartbeat does not', async (t) => {
  const lenser = await world().addLenser()
  const id = await world().addDevice(lenser.id, 'approved')
  const holder = await world().owner.connect()
  const other = await world().owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM devices.registered_devices WHERE id = $1 FOR KEY SHARE', [id])
    await other.query(`SET lock_timeout = '1s'`)
    await t.notThrowsAsync(() =>
      other.query('UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = $1', [id]),
    )
    const revoke = `UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`
    await refuses(t, () => other.query(revoke, [id]), '55P03')
    await holder.query('COMMIT')
    await t.notThrowsAsync(() => other.query(revoke, [id]))
  } finally {
    await other.query('RESET lock_timeout')
    holder.release()
    other.release()
  }
})

test('devices.fn_signers: a device by the key that counts, a session by its own, nobody else', async (t) => {
  const lenser = await world().addLenser()
  const [pending, approved] = [await world().addDevice(lenser.id), await world().addDevice(lenser.id, 'approved')]
  const key = randomBytes(32)
  const { kid } = await world().one<{ kid: string }>(
    `INSERT INTO lensers.sessions (kid, public_key, lenser_id, expires_at)
     VALUES (devices.fn_kid_of_key($1), $1, $2, now() + interval '1 hour') RETURNING kid`,
    [key, lenser.id],
  )
  const { rows } = await world()
    .as('ltg_verifier')
    .query('SELECT * FROM devices.fn_signers($1)', [[pending, approved, kid, randomUuid()]])
  t.is(rows.length, 3)
  const of = (id: string) => rows.find((row) => row.kid === id)
  const keys = await world().one('SELECT submitted_public_key FROM devices.registered_devices WHERE id = $1', [pending])
  t.deepEqual(of(pending).public_key, keys.submitted_public_key)
  t.like(of(pending), { signer: 'device', lenser_id: lenser.id, trust_level: 'pending' })
  t.like(of(approved), { signer: 'device', trust_level: 'approved', expires_at: null })
  t.like(of(kid), { signer: 'session', trust_level: null, public_key: key })
})

test('a session’s key id is its key’s', async (t) => {
  const lenser = await world().addLenser()
  const insertSession = () =>
    world().rows(`INSERT INTO lensers.sessions (kid, public_key, lenser_id, expires_at) VALUES ($1, $2, $3, now())`, [
      randomUuid(),
      randomBytes(32),
      lenser.id,
    ])
  await refuses(t, insertSession, '23514')
})

test('an account’s devices are found by its id, however many devices the others have', async (t) => {
  const { id } = await world().addLenser()
  const client = await world().owner.connect()
  try {
    await client.query('SET enable_seqscan = off')
    const { rows } = await client.query(
      `EXPLAIN (FORMAT JSON) SELECT name FROM devices.registered_devices WHERE lenser_id = '${id}'`,
    )
    t.regex(JSON.stringify(rows), /registered_devices_lenser_id_idx/)
  } finally {
    await client.query('RESET enable_seqscan')
    client.release()
  }
})
