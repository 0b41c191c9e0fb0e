import { randomBytes } from 'node:crypto'
import { makeLegacyDevice } from '@lenserfight/testkit'
import test from 'ava'
import { codeOf, newKey, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const addLegacy = async (session: Session) => {
  const kid = await makeLegacyDevice(world().owner, session.lenser)
  return { ...newKey(kid), challenge: '' }
}

test('a legacy row is approved in one step, says so, and has no key', async (t) => {
  const session = await world().newSession()
  const device = await addLegacy(session)
  const { legacy, trust_level, fingerprint } = resultOf(await world().approve(session, device))
  t.deepEqual([legacy, trust_level, fingerprint], [true, 'approved', null])
  const { devices } = resultOf(await world().ask(session, 'list', {})) as { devices: object[] }
  t.like(devices[0], {
    device_id: device.kid,
    legacy: true,
    fingerprint: null,
    trust_reason: 'approved by its owner, without a key',
  })
  const proper = await world().newDevice(session)
  const { legacy: none } = resultOf(await world().approve(session, proper))
  t.is(none, undefined)
})

test('a legacy row is its owner’s alone to approve', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const device = await addLegacy(theirs)
  t.is(codeOf(await world().approve(mine, device)), 'not_owner')
  t.is(await world().levelOf(device), 'pending')
})

test('a legacy device signs nothing: it is no signer, at no door is anything claimed for it', async (t) => {
  const session = await world().newSession()
  const device = await addLegacy(session)
  resultOf(await world().approve(session, device))
  t.is(await world().store.signer(device.kid), undefined)
  const beat = sign(device, 'heartbeat', { daemon_version: '1', gateway_status: 'x' })
  t.is(await world().claimIngress(beat), 'key_changed')
  t.is(await world().claim(sign(device, 'status', {})), 'key_changed')
  const claims = await world().query('SELECT FROM devices.envelope_claims WHERE kid = $1', [device.kid])
  t.is(claims.length, 0)
})

test('DR-5: a legacy device never gets a key, and no other device becomes legacy', async (t) => {
  const session = await world().newSession()
  const legacy = await addLegacy(session)
  const state = async (text: string, values: unknown[]) => {
    const error = await t.throwsAsync(world().query(text, values), undefined, text)
    return (error as Error & { code?: string }).code
  }
  const set = (assignment: string) => `UPDATE devices.registered_devices SET ${assignment} WHERE id = $1`
  t.is(await state(set('public_key = $2'), [legacy.kid, randomBytes(32)]), '23514')
  t.is(await state(set('submitted_public_key = $2'), [legacy.kid, randomBytes(32)]), 'LT003')
  resultOf(await world().approve(session, legacy))
  t.is(await state(set('public_key = $2'), [legacy.kid, randomBytes(32)]), '23514')
  t.is(await state(set('is_legacy = false'), [legacy.kid]), 'LT003')
  const proper = await world().newDevice(session)
  t.is(await state(set('is_legacy = true'), [proper.kid]), 'LT003')
  const insert = `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, is_legacy, submitted_public_key)
                  VALUES ($1, 'both', 'ci', 'linux', true, $2)`
  t.is(await state(insert, [session.lenser, randomBytes(32)]), '23514')
})

test('DR-5: no service makes a legacy row, not even through a function of the owner’s', async (t) => {
  const session = await world().newSession()
  await world().query(
    `CREATE FUNCTION devices.fn_test_import(p_lenser uuid) RETURNS void LANGUAGE sql SECURITY DEFINER AS
     $$ INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, is_legacy) VALUES (p_lenser, 'x', 'ci', 'linux', true) $$`,
  )
  await world().query('ALTER FUNCTION devices.fn_test_import(uuid) OWNER TO ltg_owner')
  await world().query('GRANT EXECUTE ON FUNCTION devices.fn_test_import(uuid) TO ltg_registrar')
  const error = await t.throwsAsync(world().registrar.query('SELECT devices.fn_test_import($1)', [session.lenser]))
  t.is((error as Error & { code?: string }).code, 'LT002')
})

test('DA-1: a row with a key is not legacy, whatever else it lacks: it answers its challenge first', async (t) => {
  const session = await world().newSession()
  const device = await world().register(session)
  t.is(codeOf(await world().approve(session, device)), 'awaiting_device_challenge')
})

test('a legacy device is revoked, suspended and refused a key change like any other', async (t) => {
  const session = await world().newSession()
  const device = await addLegacy(session)
  resultOf(await world().approve(session, device))
  t.is(resultOf(await world().ask(session, 'suspend', operation({ device_id: device.kid }))).trust_level, 'unhealthy')
  t.is(resultOf(await world().ask(session, 'reinstate', operation({ device_id: device.kid }))).trust_level, 'approved')
  const reprove = sign(session, 'reprove', operation({ device_id: device.kid, new_public_key: 'A'.repeat(43) }))
  t.is(await world().claim(reprove), 'ok')
  const { rows } = await world().registrar.query('SELECT devices.fn_device_reprove($1) AS outcome', [reprove.text])
  t.like(rows[0], { outcome: { ok: false, code: 'invalid_transition' } })
  t.is(resultOf(await world().ask(session, 'revoke', operation({ device_id: device.kid }))).trust_level, 'revoked')
})
