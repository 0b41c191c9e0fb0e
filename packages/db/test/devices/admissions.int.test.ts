import { randomUUID } from 'node:crypto'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { useWorld } from '../_world.ts'

const world = useWorld(test)
const broker = () => world().as('ltg_broker_auth')
const server = `N${'A'.repeat(55)}`
let connections = 0

interface Due {
  id: string
  kid: string
  client_id: string
  kicks_left: number
}

/** A connection, let in as the claim would write it down. */
const admit = async (kid: string, level = 'approved'): Promise<number> => {
  connections += 1
  await world().rows(
    `INSERT INTO devices.admissions (server_id, client_id, kid, lenser_id, trust_level, key_number)
     VALUES ($1, $2, $3, $4, $5, 1)`,
    [server, connections, kid, randomUUID(), level],
  )
  return connections
}
const revoked = async (count = 1): Promise<string> => {
  const device = await world().addDevice((await world().addLenser()).id, 'approved')
  for (let n = 0; n < count; n++) await admit(device)
  await world().setLevel(device, 'revoked')
  return device
}
const dueOf = async (kid: string): Promise<Due[]> => {
  const { rows } = await broker().query<Due>('SELECT * FROM devices.fn_admissions_to_cut(100000)')
  return rows.filter((row) => row.kid === kid)
}
const told = (due: readonly Due[], answered = true) =>
  broker().query('SELECT devices.fn_admissions_kicked($1, $2, $3)', [
    due.map(({ id }) => id),
    due.map(({ kicks_left }) => kicks_left),
    due.map(() => answered),
  ])
const rowsOf = (kid: string) =>
  world().rows<{ kicks_left: number; seconds: number }>(
    `SELECT kicks_left, extract(epoch FROM due_at - clock_timestamp())::float AS seconds
       FROM devices.admissions WHERE kid = $1 ORDER BY id`,
    [kid],
  )
/** So that what is not due yet does not become so while it is looked at. */
const postpone = (kid: string) =>
  world().rows(`UPDATE devices.admissions SET due_at = due_at + interval '1 hour' WHERE kid = $1`, [kid])
const letTimePass = (kid: string) =>
  world().rows(`UPDATE devices.admissions SET due_at = now() WHERE kid = $1 AND due_at IS NOT NULL`, [kid])

test('what was marked is kicked three times, a second and five seconds after the first, and then forgotten', async (t) => {
  const device = await revoked()
  for (const [left, seconds] of [
    [3, 1],
    [2, 4],
  ] as const) {
    const due = await dueOf(device)
    t.is(due[0]?.kicks_left, left)
    const before = performance.now()
    await told(due)
    const [row] = await rowsOf(device)
    const passed = (performance.now() - before) / 1000
    const until = row?.seconds ?? 0
    t.true(until <= seconds + 0.1 && until >= seconds - passed - 0.1, `in ${until} s, ${passed} s later`)
    await postpone(device)
    t.deepEqual(await dueOf(device), [], 'not before')
    await letTimePass(device)
  }
  await told(await dueOf(device))
  t.deepEqual(await rowsOf(device), [])
})

test('two replicas that kick one connection at once have kicked it once', async (t) => {
  const device = await revoked()
  const due = await dueOf(device)
  await Promise.all([told(due), told(due), told(due)])
  await letTimePass(device)
  await told(due)
  t.like((await rowsOf(device))[0], { kicks_left: 2 })
})

test('what is not due cannot be noted as kicked: nobody talks a connection off the list', async (t) => {
  const device = await world().addDevice((await world().addLenser()).id, 'approved')
  await admit(device)
  const [row] = await world().rows<{ id: string }>('SELECT id FROM devices.admissions WHERE kid = $1', [device])
  for (const kicks_left of [0, 1, 3]) await told([{ id: row?.id as string, kid: device, client_id: '1', kicks_left }])
  await world().setLevel(device, 'revoked')
  t.is((await dueOf(device)).length, 1)
})

test('a server that is not there keeps its connections due, at a slower pace', async (t) => {
  const device = await revoked()
  for (let n = 0; n < 5; n++) {
    await told(await dueOf(device), false)
    const [row] = await rowsOf(device)
    t.is(row?.kicks_left, 3)
    t.true((row?.seconds ?? 0) > 20)
    await letTimePass(device)
  }
})

/** A connect as the claim lets it in, beyond what one key may have. */
const crowd = (kid: string) =>
  Promise.all(
    Array.from({ length: limits.connectionsPerDevice + 2 }, (_, n) =>
      world().rows('SELECT devices.fn_admit($1, $2)', [
        { kid, server_id: server, client_id: 1_000_000 + n },
        { signer: 'device', lenser_id: randomUUID(), trust_level: 'revoked', key_number: 1 },
      ]),
    ),
  )

test('a device that was cut connects as often as it will: what it had before is asked for as long, and as often', async (t) => {
  const [away, here] = [await revoked(), await revoked()]
  await told(await dueOf(away), false)
  await told(await dueOf(here))
  for (const device of [away, here]) {
    const [before] = await rowsOf(device)
    await crowd(device)
    const [after] = await rowsOf(device)
    t.is(after?.kicks_left, before?.kicks_left)
    t.true(Math.abs((after?.seconds ?? 0) - (before?.seconds ?? 0)) < 5)
  }
})

test('one that was too many is kicked as often as any, and asked for where its server is not there', async (t) => {
  const device = await world().addDevice((await world().addLenser()).id, 'approved')
  await crowd(device)
  const due = await dueOf(device)
  t.deepEqual(
    due.map(({ kicks_left }) => kicks_left),
    [3, 3],
  )
  for (const answered of [true, true, false, false]) {
    await told(await dueOf(device), answered)
    t.is((await rowsOf(device)).filter(({ seconds }) => seconds !== null).length, 2)
    await letTimePass(device)
  }
  await told(await dueOf(device))
  t.is((await rowsOf(device)).length, limits.connectionsPerDevice)
})

test('law 7: a revoke waits for a connect in flight and marks its connection', async (t) => {
  const device = await world().addDevice((await world().addLenser()).id, 'approved')
  const { key } = await world().one<{ key: Buffer }>(
    'SELECT coalesce(public_key, submitted_public_key) AS key FROM devices.registered_devices WHERE id = $1',
    [device],
  )
  const connecting = await broker().connect()
  await connecting.query('BEGIN')
  const { rows } = await connecting.query('SELECT devices.fn_claim_connect($1) AS claim', [
    {
      ...{ kid: device, kind: 'connect', nonce: 'A'.repeat(22), iat: Math.floor(Date.now() / 1000) },
      ...{ digest: 'A'.repeat(43), public_key: key.toString('base64url'), server_id: server, client_id: 1 },
    },
  ])
  t.like(rows[0].claim, { verdict: 'ok', trust_level: 'approved' })
  const revoking = world().setLevel(device, 'revoked')
  t.is(await Promise.race([revoking, new Promise((done) => setTimeout(done, 300, 'waits'))]), 'waits')
  await connecting.query('COMMIT')
  connecting.release()
  await revoking
  t.is((await dueOf(device)).length, 1)
})

test('so many at most are read, those that wait longest first', async (t) => {
  const device = await revoked(5)
  await world().rows(
    `UPDATE devices.admissions SET due_at = now() - interval '1 day' - client_id * interval '1 minute' WHERE kid = $1`,
    [device],
  )
  const { rows } = await broker().query<Due>('SELECT * FROM devices.fn_admissions_to_cut(3)')
  t.is(rows.length, 3)
  t.true(rows.every(({ kid }) => kid === device))
  const ids = rows.map(({ client_id }) => Number(client_id))
  t.deepEqual(
    ids,
    ids.toSorted((a, b) => b - a),
  )
})

test.serial(
  'connections that must have ended by themselves are forgotten, a bounded number a call, and no other',
  async (t) => {
    const [over, alive] = [randomUUID(), randomUUID()]
    await world().rows('DELETE FROM devices.admissions')
    const life = limits.userJwtMaxSeconds + limits.iatWindowSeconds
    for (let n = 0; n < 5; n++) await admit(over)
    await world().rows(`UPDATE devices.admissions SET admitted_at = now() - make_interval(secs => $1)`, [life + 5])
    await admit(alive)
    await world().rows(`UPDATE devices.admissions SET admitted_at = now() - make_interval(secs => $1) WHERE kid = $2`, [
      life - 60,
      alive,
    ])
    const pruned = async () => {
      const { rows } = await broker().query('SELECT devices.fn_admissions_prune(3) AS count')
      return rows[0].count
    }
    t.is(await pruned(), 3)
    t.is(await pruned(), 2)
    t.is(await pruned(), 0)
    t.is((await rowsOf(alive)).length, 1)
  },
)

test('a connection is marked for each transition that takes a kind from it, and for no other', async (t) => {
  const levels = ['pending', 'approved', 'trusted', 'offline', 'unhealthy', 'revoked', 'blocked'] as const
  const rank = { pending: 1, approved: 3, trusted: 3, offline: 3, unhealthy: 2, revoked: 0, blocked: 0 }
  for (const from of levels) {
    for (const to of levels) {
      const { takes } = await world().one<{ takes: boolean }>('SELECT devices.fn_level_takes($1, $2) AS takes', [
        from,
        to,
      ])
      t.is(takes, rank[from] > rank[to], `${from} to ${to}`)
    }
  }
  const scopes = ['api', 'api_approver', 'owner'] as const
  for (const [low, from] of scopes.entries()) {
    for (const [high, to] of scopes.entries()) {
      const { takes } = await world().one<{ takes: boolean }>('SELECT devices.fn_scope_takes($1, $2) AS takes', [
        from,
        to,
      ])
      t.is(takes, low > high, `${from} to ${to}`)
    }
  }
})

// Alone: others mark connections too.
test.serial('a notice goes out for what is due at once, once a transaction, and for nothing else', async (t) => {
  const listener = await world().owner.connect()
  t.teardown(() => listener.release(true))
  let heard = 0
  listener.on('notification', () => {
    heard += 1
  })
  await listener.query('LISTEN ltg_cut')
  const settle = async () => {
    await listener.query('SELECT pg_sleep(0.1)')
    return heard
  }
  const lenser = (await world().addLenser()).id
  const devices = await Promise.all([1, 2, 3].map(() => world().addDevice(lenser, 'approved')))
  await world().rows('UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = ANY ($1)', [devices])
  await world().setLevel(devices[0] as string, 'offline')
  await world().setLevel(devices[0] as string, 'revoked')
  t.is(await settle(), 0, 'nobody is connected')
  for (const device of devices.slice(1)) await admit(device)
  await world().rows(
    `UPDATE devices.registered_devices SET trust_level = 'revoked', trust_actor = 'owner' WHERE id = ANY ($1)`,
    [devices.slice(1)],
  )
  t.is(await settle(), 1)
})
