import type { Stack } from '@lenserfight/local/stack'
import { askSubject, type DeviceLevel, inSubject, limits } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeSession, type Signatory, setLevel } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { admissionsOf, changing, connectLine, enterLine, isCutWithin, type Line, openLine, until } from './_cut.ts'
import { asOwner, doorOnly, enter, mayPublish } from './_door.ts'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { ...doorOnly, 'broker-auth': 2 } })
})
test.after.always(() => stack?.stop())

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const newDevice = (lenser?: string, level: DeviceLevel = 'approved') =>
  asOwner(stack, async (client) => makeDevice(client, { lenser: lenser ?? (await makeAccount(client)).lenser, level }))
const newSession = () => asOwner(stack, async (client) => makeSession(client, (await makeAccount(client)).lenser))
const heartbeatOf = ({ lenser, kid }: Signatory) => inSubject({ lenser, kid, kind: 'heartbeat' })

/** The bound, milliseconds. */
const bound = 1000
/** The last kick comes five seconds after the first; what is still there then stays. */
const settled = 7500

/** A connection of somebody new, and the change that is to cut it. */
const isCut = (
  t: ExecutionContext,
  what: string,
  make: () => Promise<Signatory>,
  change: (who: Signatory, line: Line) => Promise<number>,
): Promise<void> =>
  isCutWithin(t, bound, what, async () => {
    const who = await make()
    const line = await enterLine(t, stack, who)
    return { line, began: await change(who, line) }
  })

const levelSql = `UPDATE devices.registered_devices SET trust_level = $2, trust_actor = $3 WHERE id = $1`

test('a revoke cuts the device’s live connection in under a second, and nobody else’s', async (t) => {
  const others = [await newDevice(), await newDevice()] as const
  const beside = await Promise.all(others.map((other) => enterLine(t, stack, other)))
  const make = () => newDevice(others[0].lenser)
  await isCut(t, 'revoked', make, ({ kid }) => changing(stack, levelSql, [kid, 'revoked', 'owner']))
  await delay(settled)
  t.true(beside.every(({ isOpen }) => isOpen()))
})

test('what takes something from a device cuts it in under a second: unhealthy, blocked', async (t) => {
  for (const [from, to, actor] of [
    ['trusted', 'unhealthy', 'owner'],
    ['approved', 'unhealthy', 'server'],
    ['offline', 'blocked', 'platform'],
    ['pending', 'revoked', 'owner'],
    ['unhealthy', 'revoked', 'owner'],
  ] as const) {
    const make = () => newDevice(undefined, from)
    await isCut(t, `${from} to ${to}`, make, ({ kid }) => changing(stack, levelSql, [kid, to, actor]))
  }
})

// Alone: the others are timed.
test.serial('hundreds that are revoked in one statement are all cut, more than one look holds', async (t) => {
  const first = await newDevice()
  const ids = await asOwner(stack, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
       SELECT $1, 'one of many ' || n, 'ci', 'linux', $2 FROM generate_series(1, 300) AS n RETURNING id`,
      [first.lenser, first.keys.publicKey],
    )
    return rows.map(({ id }) => id)
  })
  const lines = await Promise.all(ids.map((kid) => enterLine(t, stack, { ...first, kid })))
  const all = `UPDATE devices.registered_devices SET trust_level = 'revoked', trust_actor = 'owner' WHERE id = ANY ($1)`
  const began = await changing(stack, all, [ids])
  const ended = await Promise.all(lines.map(({ ended }) => ended))
  t.log(`the last of ${lines.length} was cut ${Math.max(...ended) - began} ms after the change began`)
  t.is(ended.length, 300)
})

test('what takes something from a session cuts it: revoked, lowered, removed at once; its end brought forward, then', async (t) => {
  for (const [what, sql] of [
    ['revoked', 'UPDATE lensers.sessions SET revoked_at = now() WHERE kid = $1'],
    ['lowered', `UPDATE lensers.sessions SET scope = 'api', name = 'lowered' WHERE kid = $1`],
    ['ended', `UPDATE lensers.sessions SET expires_at = now() WHERE kid = $1`],
    ['removed', 'DELETE FROM lensers.sessions WHERE kid = $1'],
  ] as const) {
    await isCut(t, what, newSession, ({ kid }) => changing(stack, sql, [kid]))
  }
  const session = await newSession()
  const line = await enterLine(t, stack, session)
  const ends = await changing(stack, `UPDATE lensers.sessions SET expires_at = now() + interval '3 s' WHERE kid = $1`, [
    session.kid,
  ])
  const took = (await line.ended) - ends
  t.true(took > 2500, `when its time has come and not before: ${took} ms`)
})

/** Another key, as rotate (the former one good for a while) and reprove (dead at once) put it in. */
const rotateSql = (overlap: string): string =>
  `UPDATE devices.registered_devices SET key_number = key_number + 1, public_key = sha256(public_key),
     former_public_key = public_key, former_key_until = now() + interval '${overlap}' WHERE id = $1`
const reproveSql = `UPDATE devices.registered_devices SET key_number = key_number + 1, public_key = sha256(public_key),
  former_public_key = NULL, former_key_until = NULL WHERE id = $1`

test('another key cuts what the former one opened: at once, or when the former one’s time is over', async (t) => {
  const rotated = await newDevice()
  const line = await enterLine(t, stack, rotated)
  const rotatedAt = await changing(stack, rotateSql('3 s'), [rotated.kid])
  await isCut(t, 'reproved', newDevice, ({ kid }) => changing(stack, reproveSql, [kid]))
  const took = (await line.ended) - rotatedAt
  t.true(took > 2500, `${took} ms`)
})

test('a key that was replaced twice has the shorter time left', async (t) => {
  await isCut(t, 'reproved', newDevice, async ({ kid }, line) => {
    await changing(stack, rotateSql('30 s'), [kid])
    const [first] = await admissionsOf(stack, kid)
    t.is(first?.cause, 'key')
    await changing(stack, rotateSql('1 hour'), [kid])
    t.deepEqual((await admissionsOf(stack, kid))[0], first)
    t.true(line.isOpen())
    return changing(stack, reproveSql, [kid])
  })
})

test('what gives a device or a session something cuts nothing', async (t) => {
  const device = await newDevice(undefined, 'pending')
  const session = await newSession()
  const lines = [await enterLine(t, stack, device), await enterLine(t, stack, session)]
  await asOwner(stack, async (client) => {
    await client.query('UPDATE devices.registered_devices SET public_key = submitted_public_key WHERE id = $1', [
      device.kid,
    ])
    for (const level of ['approved', 'offline', 'approved', 'trusted', 'offline', 'trusted'] as const)
      await setLevel(client, device.kid, level)
    await client.query('UPDATE devices.registered_devices SET last_heartbeat_at = now() WHERE id = $1', [device.kid])
    await client.query(`UPDATE lensers.sessions SET expires_at = expires_at + interval '1 day' WHERE kid = $1`, [
      session.kid,
    ])
  })
  for (const { kid } of [device, session]) t.is((await admissionsOf(stack, kid))[0]?.due_at, null)
  await delay(2500)
  t.true(lines.every(({ isOpen }) => isOpen()))
})

test('an edge that was cut comes back to ask why, and is left alone then', async (t) => {
  const device = await newDevice()
  const bus = await enter(t, stack, device)
  let lost = 0
  bus.events.on('disconnected', () => {
    lost += 1
  })
  const back = new Promise((resolve) => bus.events.once('connected', () => resolve(true)))
  await changing(stack, levelSql, [device.kid, 'revoked', 'owner'])
  await back
  t.false(await mayPublish(bus, heartbeatOf(device)))
  t.true(await mayPublish(bus, askSubject({ ...device, kind: 'status' })))
  await delay(settled)
  t.is(lost, 1, 'no kick after the one')
  t.true(bus.isConnected())
  t.deepEqual(
    (await admissionsOf(stack, device.kid)).map(({ trust_level, due_at }) => ({ trust_level, due_at })),
    [{ trust_level: 'revoked', due_at: null }],
    'what was cut is forgotten',
  )
})

test.serial('a revoke that races connects leaves none of them what the device had', async (t) => {
  const rounds = 40
  const began = Date.now()
  for (let n = 0; n < 5; n++) await enterLine(t, stack, await newDevice())
  const usualMs = (Date.now() - began) / 5
  const left: { device: Signatory; line: Line }[] = []
  for (let round = 0; round < rounds; round++) {
    const device = await newDevice()
    const revoked = delay((round / rounds) * 2 * usualMs).then(() =>
      changing(stack, levelSql, [device.kid, 'revoked', 'owner']),
    )
    const opening = [0, usualMs / 2, usualMs].map((ms) => delay(ms).then(() => openLine(t, stack, device)))
    for (const line of await Promise.all(opening)) left.push({ device, line })
    await revoked
  }
  await delay(settled)
  const open = left.filter(({ line }) => line.isOpen())
  for (const { device, line } of open) t.false(await line.mayPublish(heartbeatOf(device)))
  t.log(`${open.length} of ${left.length} connections came after the revoke and may ask for their status`)
  t.true(open.length > 0 && open.length < left.length, 'both sides of the race were met')
})

test('one key has so many connections, the newest: the oldest is cut', async (t) => {
  const device = await newDevice()
  const lines: Line[] = []
  for (let n = 0; n < limits.connectionsPerDevice + 3; n++) lines.push(await enterLine(t, stack, device))
  await Promise.all(lines.slice(0, 3).map(({ ended }) => ended))
  await delay(2500)
  t.deepEqual(
    lines.map(({ isOpen }) => isOpen()),
    [...Array(3).fill(false), ...Array(limits.connectionsPerDevice).fill(true)],
  )
})

test('one key that connects from everywhere at once has no more connections than that', async (t) => {
  const device = await newDevice()
  const many = limits.connectionsPerDevice * 6
  const lines = await Promise.all(Array.from({ length: many }, () => openLine(t, stack, device)))
  const living = () => lines.filter(({ isOpen }) => isOpen()).length
  await until('the rest is cut', () => living() <= limits.connectionsPerDevice)
  t.is(living(), limits.connectionsPerDevice)
})

test('nobody has another’s connection written down as theirs, whatever they say of themselves', async (t) => {
  const victim = await newDevice()
  const line = await enterLine(t, stack, victim)
  const id = line.clientId
  const lies = {
    ...{ id, cid: id, client_id: id, clientId: id, user: String(id), name: String(id), lang: String(id) },
    ...{ client_info: { id }, nats: { client_info: { id } }, server_id: 'N'.repeat(56) },
  }
  await isCutWithin(t, bound, 'the liar', async () => {
    const hostile = await newDevice()
    const liar = await enterLine(t, stack, hostile, lies)
    t.deepEqual(
      (await admissionsOf(stack, hostile.kid)).map(({ client_id }) => Number(client_id)),
      [liar.clientId],
    )
    return { line: liar, began: await changing(stack, levelSql, [hostile.kid, 'revoked', 'owner']) }
  })
  await delay(settled)
  t.true(line.isOpen())
})

test('a connection that says CONNECT again as somebody else hides from neither revoke', async (t) => {
  for (const which of [0, 1] as const) {
    await isCutWithin(t, bound, `the ${which}th name`, async () => {
      const signatories = [await newDevice(), await newDevice()] as const
      const line = await enterLine(t, stack, signatories[0])
      line.say(`${connectLine(stack, signatories[1], line.nonce)}PING\r\n`)
      await until('it was judged', async () => (await admissionsOf(stack, signatories[1].kid)).length > 0)
      return { line, began: await changing(stack, levelSql, [signatories[which].kid, 'revoked', 'owner']) }
    })
  }
})
