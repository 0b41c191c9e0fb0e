import { encodeKey } from '@lenserfight/envelope'
import type { DeviceLevel } from '@lenserfight/schemas'
import { setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { codeOf, type Device, newKey, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const suspend = (session: Session, device: { kid: string }, members: object = {}) =>
  world().ask(session, 'suspend', operation({ device_id: device.kid, ...members }))
const reinstate = (session: Session, device: { kid: string }, members: object = {}) =>
  world().ask(session, 'reinstate', operation({ device_id: device.kid, ...members }))
/** An approved device brought further, one transition at a time. */
const deviceAt = async (session: Session, ...levels: readonly DeviceLevel[]): Promise<Device> => {
  const device = await world().newDevice(session)
  for (const level of levels) await setLevel(world().owner, device.kid, level)
  return device
}
const stateOf = async (device: Device) => {
  const [row] = await world().query<Record<string, unknown>>(
    `SELECT trust_level AS level, earlier_level AS earlier, trust_reason AS reason, trust_actor AS actor
       FROM devices.registered_devices WHERE id = $1`,
    [device.kid],
  )
  return row
}
const heardAgo = (device: Device, age: string) =>
  world().query('UPDATE devices.registered_devices SET last_heartbeat_at = now() - $2::interval WHERE id = $1', [
    device.kid,
    age,
  ])
const beat = (device: Device) => sign(device, 'heartbeat', { daemon_version: '0.1.0', gateway_status: 'running' })

test('a suspended device may send heartbeats and what proves it, and neither starts runs nor attests', async (t) => {
  const session = await world().newSession()
  const device = await deviceAt(session)
  const { trust_level, trust_reason, name } = resultOf(await suspend(session, device, { reason: 'lost' }))
  t.deepEqual([trust_level, trust_reason], ['unhealthy', 'suspended by its owner: lost'])
  t.is(typeof name, 'string')
  for (const kind of ['run_start', 'attestation']) {
    t.is(await world().claimIngress(sign(device, kind, operation())), 'device_unhealthy', kind)
  }
  t.is(await world().claimIngress(beat(device)), 'ok')
  t.is(await world().claimIngress(sign(device, 'rotate', operation())), 'ok')
  t.deepEqual(await stateOf(device), {
    level: 'unhealthy',
    earlier: 'approved',
    reason: 'suspended by its owner: lost',
    actor: 'owner',
  })
})

test('suspended from any level, a device is reinstated to the one that it left', async (t) => {
  const session = await world().newSession()
  const cases: [readonly DeviceLevel[], DeviceLevel][] = [
    [[], 'approved'],
    [['trusted'], 'trusted'],
    [['offline'], 'approved'],
    [['trusted', 'offline'], 'trusted'],
  ]
  for (const [way, left] of cases) {
    const device = await deviceAt(session, ...way)
    await heardAgo(device, '1 hour')
    t.is(resultOf(await suspend(session, device)).trust_reason, 'suspended by its owner')
    t.is(resultOf(await reinstate(session, device)).trust_level, left, way.join())
    t.deepEqual(await stateOf(device), {
      level: left,
      earlier: null,
      reason: 'reinstated by its owner',
      actor: 'owner',
    })
    t.is(await world().claimIngress(sign(device, 'run_start', operation())), 'ok')
  }
})

test('device_key_changed: nothing is reinstated under another key than its owner was shown', async (t) => {
  const session = await world().newSession()
  const device = await deviceAt(session)
  resultOf(await suspend(session, device))
  for (const key_number of [2, 2_147_483_647]) {
    t.is(codeOf(await reinstate(session, device, { key_number })), 'device_key_changed', String(key_number))
    t.is(await world().levelOf(device), 'unhealthy')
  }
  t.is(resultOf(await reinstate(session, device, { key_number: 1 })).trust_level, 'approved')
})

test('a device that was silent for a day is reinstated as offline, which keeps its level', async (t) => {
  const session = await world().newSession()
  const device = await deviceAt(session, 'trusted')
  await heardAgo(device, '25 hours')
  resultOf(await suspend(session, device))
  t.is(resultOf(await reinstate(session, device)).trust_level, 'offline')
  t.like(await stateOf(device), { level: 'offline', earlier: 'trusted' })
})

test('reprove_needed: a device whose key two machines know is not cleared by its owner’s word alone', async (t) => {
  const session = await world().newSession()
  const device = await deviceAt(session)
  await world().query(
    `UPDATE devices.registered_devices SET trust_level = 'unhealthy', trust_actor = 'server', trust_reason = 'identity_forked' WHERE id = $1`,
    [device.kid],
  )
  t.is(codeOf(await reinstate(session, device)), 'reprove_needed')
  t.is(resultOf(await suspend(session, device)).trust_reason, 'identity_forked', 'suspending it hides nothing')
  t.is(codeOf(await reinstate(session, device)), 'reprove_needed')
  const platform = (call: string) => world().query(`SELECT devices.${call}($1, 'abuse')`, [device.kid])
  await platform('fn_device_block')
  t.is(codeOf(await reinstate(session, device)), 'device_blocked')
  await platform('fn_device_unblock')
  t.like(await stateOf(device), { level: 'unhealthy', reason: 'identity_forked' })
  t.is(codeOf(await reinstate(session, device)), 'reprove_needed', 'nor does the platform’s block')
})

test('suspend and reinstate: what has no health to change says so, and twice is once', async (t) => {
  const session = await world().newSession()
  const pending = await world().register(session)
  const [revoked, blocked, working] = [
    await deviceAt(session, 'revoked'),
    await deviceAt(session, 'blocked'),
    await deviceAt(session, 'trusted'),
  ]
  for (const ask of [suspend, reinstate]) {
    t.is(codeOf(await ask(session, pending)), 'device_pending')
    t.is(codeOf(await ask(session, revoked)), 'device_revoked')
    t.is(codeOf(await ask(session, blocked)), 'device_blocked')
    t.is(codeOf(await ask(session, newKey('22222222-2222-4222-8222-222222222222'))), 'device_not_found')
  }
  const entries = async () =>
    (await world().query('SELECT FROM audit.hash_chains WHERE device_id = $1', [working.kid])).length
  const before = await entries()
  t.is(resultOf(await reinstate(session, working)).trust_level, 'trusted', 'nothing to clear')
  t.is(await entries(), before)
  const first = resultOf(await suspend(session, working, { reason: 'one' }))
  t.deepEqual(resultOf(await suspend(session, working, { reason: 'two' })), first, 'it keeps its first reason')
  t.is(await entries(), before + 1)
})

test('not_owner: nobody suspends or reinstates another account’s device', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const [device, suspended] = [await deviceAt(theirs), await deviceAt(theirs)]
  resultOf(await suspend(theirs, suspended))
  t.is(codeOf(await suspend(mine, device)), 'not_owner')
  t.is(codeOf(await reinstate(mine, suspended)), 'not_owner')
  t.is(await world().levelOf(device), 'approved')
  t.is(await world().levelOf(suspended), 'unhealthy')
})

test('law 7: under claims without pause, no run is admitted after the suspension has returned', async (t) => {
  const session = await world().newSession()
  const device = await deviceAt(session)
  let isSuspended = false
  const verdicts: { verdict: string; begunAfter: boolean }[] = []
  const claimer = async (): Promise<void> => {
    for (let round = 0; round < 20; round += 1) {
      const begunAfter = isSuspended
      verdicts.push({ verdict: await world().claimIngress(sign(device, 'run_start', operation())), begunAfter })
    }
  }
  const suspender = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 30))
    resultOf(await suspend(session, device))
    isSuspended = true
  }
  await Promise.all([claimer(), claimer(), suspender()])
  t.is(await world().claimIngress(sign(device, 'run_start', operation())), 'device_unhealthy')
  t.deepEqual(
    verdicts.filter(({ verdict, begunAfter }) => begunAfter && verdict !== 'device_unhealthy'),
    [],
  )
})

test('paused: a status tells device and session whether the account’s runners are paused', async (t) => {
  const [session, other] = [await world().newSession(), await world().newSession()]
  const device = await deviceAt(session)
  const paused = async () => [
    resultOf(await world().ask(device, 'status', {})).paused,
    resultOf(await world().ask(session, 'status', {})).paused,
  ]
  t.deepEqual(await paused(), [false, false], 'no settings at all')
  const set = (value: boolean) =>
    world().query(
      `INSERT INTO agents.workspace_settings (lenser_id, runner_paused) VALUES ($1, $2)
       ON CONFLICT (lenser_id) DO UPDATE SET runner_paused = $2`,
      [session.lenser, value],
    )
  await set(true)
  t.deepEqual(await paused(), [true, true])
  t.is(resultOf(await world().ask(other, 'status', {})).paused, false)
  await set(false)
  t.deepEqual(await paused(), [false, false])
})

const shownOf = async (session: Session, device: Device) => {
  const { devices } = resultOf(await world().ask(session, 'list', {})) as { devices: Record<string, unknown>[] }
  return devices.find(({ device_id }) => device_id === device.kid) ?? {}
}
/** Replaces a device's key as the registrar does; what it is from then on. */
const rotated = async (device: Device): Promise<Device> => {
  const to = newKey()
  const signed = sign(device, 'rotate', world().rotation(device, to))
  const verdict = await world().claimIngress(signed)
  if (verdict !== 'ok') throw new Error(verdict)
  const [outcome] = await world().store.rotate([signed.text], [encodeKey(device.publicKey)])
  resultOf(outcome as never)
  return { ...device, key: to.key, publicKey: to.publicKey }
}

test('the owner who reinstates a device is told why it was suspended and whether its key changed meanwhile', async (t) => {
  const session = await world().newSession()
  const device = await rotated(await deviceAt(session))
  t.like(await shownOf(session, device), { key_number: 2, unhealthy_since: null, key_changed_while_unhealthy: false })
  const suspended = resultOf(await suspend(session, device, { reason: 'lost' }))
  t.like(suspended, { key_number: 2, former_reason: null, key_changed_while_unhealthy: false })
  t.true(Math.abs((suspended.unhealthy_since as number) - Date.now() / 1000) < 60)
  t.true((suspended.key_changed_at as number) <= (suspended.unhealthy_since as number))

  await rotated(device)
  const platform = (call: string) => world().query(`SELECT devices.${call}($1, 'a look at it')`, [device.kid])
  await platform('fn_device_block')
  await platform('fn_device_unblock')
  const shown = await shownOf(session, device)
  const { unhealthy_since } = suspended
  const known = { key_number: 3, unhealthy_since, key_changed_while_unhealthy: true }
  t.like(shown, { ...known, trust_reason: 'suspended by its owner: lost' }, 'a block in between hides nothing')
  const reinstated = resultOf(await reinstate(session, device))
  t.like(reinstated, { ...known, key_changed_at: shown.key_changed_at, former_reason: 'suspended by its owner: lost' })
  t.like(await shownOf(session, device), { unhealthy_since: null, key_changed_while_unhealthy: false })

  const again = resultOf(await suspend(session, device))
  t.false(again.key_changed_while_unhealthy, 'what happened in an earlier suspension is over')
  t.like(resultOf(await reinstate(session, device)), { key_changed_while_unhealthy: false })
  t.like(resultOf(await reinstate(session, device)), { former_reason: null, unhealthy_since: null }, 'nothing to clear')
})
