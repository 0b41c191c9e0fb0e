import { createHash } from 'node:crypto'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { codeOf, newKey, operation, resultOf, useWorld } from './_world.ts'

const world = useWorld(test)

test('list: an owner sees their own devices, living ones first, with what tells them apart', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  await world().newDevice(theirs)
  const gone = await world().register(mine, { name: 'gone' })
  resultOf(await world().ask(mine, 'revoke', operation({ device_id: gone.kid })))
  const waiting = await world().register(mine, { name: 'waiting' })
  const working = await world().newDevice(mine, { name: 'working' })
  const { devices, more } = resultOf(await world().ask(mine, 'list', {})) as {
    devices: Record<string, unknown>[]
    more: boolean
  }
  t.false(more)
  t.deepEqual(
    devices.map(({ name, trust_level, challenge_verified }) => ({ name, trust_level, challenge_verified })),
    [
      { name: 'working', trust_level: 'approved', challenge_verified: true },
      { name: 'waiting', trust_level: 'pending', challenge_verified: false },
      { name: 'gone', trust_level: 'revoked', challenge_verified: false },
    ],
  )
  const [first] = devices
  const fingerprint = `SHA256:${createHash('sha256').update(working.publicKey).digest('base64url')}`
  const { created_at, key_expires_at, key_changed_at, ...shown } = first as Record<
    'created_at' | 'key_expires_at' | 'key_changed_at',
    number
  >
  t.true(Math.abs(created_at - Date.now() / 1000) < 60)
  t.true(Math.abs(key_expires_at - created_at - limits.keyMaxAgeDays * 24 * 3600) < 60)
  t.true(Math.abs(key_changed_at - created_at) < 60)
  t.deepEqual(shown, {
    device_id: working.kid,
    name: 'working',
    device_type: 'laptop',
    os: 'linux 6.1',
    trust_level: 'approved',
    trust_reason: 'approved by its owner',
    fingerprint,
    key_number: 1,
    unhealthy_since: null,
    key_changed_while_unhealthy: false,
    former_key_until: null,
    legacy: false,
    challenge_verified: true,
    last_heartbeat_at: null,
    daemon_version: null,
    gateway_status: 'disconnected',
  })
  const pending = resultOf(await world().ask(mine, 'list', { trust: 'pending' })) as {
    devices: { device_id: string }[]
  }
  t.deepEqual(
    pending.devices.map(({ device_id }) => device_id),
    [waiting.kid],
  )
})

test('list: however many and however named, the answer fits into an envelope and says that there is more', async (t) => {
  const session = await world().newSession()
  await world().query(
    `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
     SELECT $1, repeat('𝔻', 60) || n, 'ci', repeat(E'\\u0001', 64), sha256(n::text::bytea) FROM generate_series(1, 400) AS n`,
    [session.lenser],
  )
  const result = resultOf(await world().ask(session, 'list', {})) as { devices: unknown[]; more: boolean }
  t.true(result.more)
  t.true(result.devices.length > 100)
  t.true(Buffer.byteLength(JSON.stringify(result)) < 200 * 1024)
})

test('status: a device in any state learns its own level, a session its account', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session, { name: 'asking' })
  const level = async () => {
    const { trust_level, signer, lenser_id, time, name } = resultOf(await world().ask(device, 'status', {}))
    t.deepEqual([signer, lenser_id, name], ['device', session.lenser, 'asking'])
    t.true(Math.abs((time as number) - Date.now() / 1000) < 60)
    return trust_level
  }
  t.is(await level(), 'pending')
  resultOf(await world().answerChallenge(device))
  resultOf(await world().approve(session, device))
  t.is(await level(), 'approved')
  for (const state of ['unhealthy', 'blocked']) {
    await world().query('UPDATE devices.registered_devices SET trust_level = $2 WHERE id = $1', [device.kid, state])
    t.is(await level(), state)
  }
  await world().query("UPDATE devices.registered_devices SET trust_level = 'unhealthy' WHERE id = $1", [device.kid])
  resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid })))
  t.is(await level(), 'revoked')
  const own = resultOf(await world().ask(session, 'status', {}))
  t.deepEqual([own.signer, own.session, own.lenser_id, own.devices], ['session', session.kid, session.lenser, 0])
})

test('unsupported_kind: a device asks for nothing that is its owner’s to ask', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const other = await world().register(session)
  resultOf(await world().answerChallenge(other))
  t.is(codeOf(await world().ask(device, 'approve', operation({ device_id: other.kid }))), 'unsupported_kind')
  t.is(codeOf(await world().ask(device, 'list', {})), 'unsupported_kind')
  t.is(await world().levelOf(other), 'pending')
})

// Alone: the others’ triggers rest meanwhile too.
test.serial('audit_verify: an owner’s own chain is verified, and a broken one is told from a whole one', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  await world().newDevice(mine)
  await world().newDevice(theirs)
  const verify = async (session: typeof mine) =>
    resultOf(await world().ask(session, 'audit_verify', { chain_kind: 'gateway' }))
  t.like(await verify(mine), { chain_kind: 'gateway', intact: true, entries: 2, first_bad_index: null })
  await world().query('ALTER TABLE audit.hash_chains DISABLE TRIGGER ALL')
  await world().query(
    `UPDATE audit.hash_chains SET payload = payload || '{"actor":"nobody"}' WHERE lenser_id = $1 AND seq = 2`,
    [mine.lenser],
  )
  t.like(await verify(mine), { intact: false, entries: 2 })
  t.like(await verify(theirs), { intact: true })
  await world().query('ALTER TABLE audit.hash_chains ENABLE TRIGGER ALL, ENABLE ALWAYS TRIGGER deny_mutation')
})

test('runner_bind: a runner is bound to one device, and binding it elsewhere ends the former binding', async (t) => {
  const session = await world().newSession()
  const [one, two] = [await world().newDevice(session), await world().newDevice(session)]
  const bind = async (device: typeof one) =>
    resultOf(await world().ask(session, 'runner_bind', operation({ name: 'builder', device_id: device.kid })))
  const first = await bind(one)
  t.like(first, { change: 'bound', former_device_id: null, former_device_name: null })
  t.deepEqual(await bind(one), { ...first, change: 'unchanged' }, 'the same binding stays')
  const second = await bind(two)
  t.is(second.runner_id, first.runner_id)
  t.not(second.binding_id, first.binding_id)
  const [{ name } = {}] = await world().query<{ name: string }>(
    'SELECT name FROM devices.registered_devices WHERE id = $1',
    [one.kid],
  )
  t.like(second, { change: 'moved', former_device_id: one.kid, former_device_name: name })
  t.deepEqual(
    await world().query(
      `SELECT id AS binding_id, device_id, status FROM execution.runner_device_bindings WHERE runner_id = $1 ORDER BY bound_at`,
      [first.runner_id],
    ),
    [
      { binding_id: first.binding_id, device_id: one.kid, status: 'ended' },
      { binding_id: second.binding_id, device_id: two.kid, status: 'active' },
    ],
  )
})

test('runner_bind: at once under one name, one runner with one active binding comes of it', async (t) => {
  const session = await world().newSession()
  const devices = await Promise.all(Array.from({ length: 5 }, () => world().newDevice(session)))
  const runners = new Set<unknown>()
  for (let round = 0; round < 6; round++) {
    const outcomes = await Promise.all(
      devices.map((device) =>
        world().ask(session, 'runner_bind', operation({ name: 'contested', device_id: device.kid })),
      ),
    )
    for (const outcome of outcomes) {
      const { runner_id, binding_id, device_id } = resultOf(outcome)
      runners.add(runner_id)
      const bound = 'SELECT device_id FROM execution.runner_device_bindings WHERE id = $1'
      t.deepEqual(await world().query(bound, [binding_id]), [{ device_id }], 'each was told its own binding')
    }
    const active = await world().query(
      `SELECT FROM execution.runner_device_bindings WHERE lenser_id = $1 AND status = 'active'`,
      [session.lenser],
    )
    t.is(active.length, 1)
  }
  t.is(runners.size, 1)
})

test('runner_bind: only to a device of one’s own that may work', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const bind = async (device: { kid: string }) =>
    codeOf(await world().ask(mine, 'runner_bind', operation({ name: 'builder', device_id: device.kid })))
  t.is(await bind(await world().newDevice(theirs)), 'not_owner')
  t.is(await bind(newKey('22222222-2222-4222-8222-222222222222')), 'device_not_found')
  const device = await world().register(mine)
  t.is(await bind(device), 'device_pending')
  resultOf(await world().answerChallenge(device))
  resultOf(await world().approve(mine, device))
  const setLevel = (level: string) =>
    world().query('UPDATE devices.registered_devices SET trust_level = $2 WHERE id = $1', [device.kid, level])
  await setLevel('offline')
  t.is(await bind(device), 'ok', 'offline is advisory')
  await setLevel('unhealthy')
  t.is(await bind(device), 'device_unhealthy')
  await setLevel('blocked')
  t.is(await bind(device), 'device_blocked')
  await setLevel('unhealthy')
  resultOf(await world().ask(mine, 'revoke', operation({ device_id: device.kid })))
  t.is(await bind(device), 'device_revoked')
})
