import { setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { codeOf, type Device, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const nowSeconds = () => Math.floor(Date.now() / 1000)
const revoke = (session: Session, device: Device, members: object = {}) =>
  world().ask(session, 'revoke', operation({ device_id: device.kid, ...members }))
const declared = (device: Device) =>
  world().query<Record<string, unknown>>(
    `SELECT kind, key_number, extract(epoch FROM since)::bigint::int AS since, reason FROM devices.compromises WHERE device_id = $1 ORDER BY id`,
    [device.kid],
  )

test('revoke: with a date since when its key was known, it is on record for the evaluation', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const since = nowSeconds() - 3 * 24 * 3600
  const result = resultOf(await revoke(session, device, { reason: 'stolen', compromised_since: since }))
  t.like(result, { trust_level: 'revoked', compromised_since: since })
  t.deepEqual(await declared(device), [{ kind: 'revoked', key_number: null, since, reason: 'stolen' }])
  const [record] = await world().query<{ payload: { result: object } }>(
    `SELECT payload FROM audit.pending WHERE lenser_id = $1 AND event_kind = 'revoke'`,
    [session.lenser],
  )
  t.like(record?.payload.result, { compromised_since: since })
})

test('revoke: without a date nothing is declared', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  t.false('compromised_since' in resultOf(await revoke(session, device)))
  t.deepEqual(await declared(device), [])
})

test('revoke: the date may be told later, and again, of a device that is revoked already', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const first = resultOf(await revoke(session, device, { reason: 'sold' }))
  const [late, early] = [nowSeconds() - 100, nowSeconds() - 200]
  t.like(resultOf(await revoke(session, device, { compromised_since: late })), { revoked_at: first.revoked_at })
  const again = operation({ device_id: device.kid, compromised_since: early })
  const once = resultOf(await world().ask(session, 'revoke', again))
  t.deepEqual(resultOf(await world().ask(session, 'revoke', again)), once, 'sent again, it is the same one')
  t.deepEqual(await declared(device), [
    { kind: 'revoked', key_number: null, since: late, reason: 'sold' },
    { kind: 'revoked', key_number: null, since: early, reason: 'sold' },
  ])
})

test('malformed_body: a date in the future revokes nothing', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  t.is(codeOf(await revoke(session, device, { compromised_since: nowSeconds() + 3600 })), 'malformed_body')
  t.is(await world().levelOf(device), 'approved')
  t.deepEqual(await declared(device), [])
})

test('an owner’s clock that is ahead by less than the window may say now', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const ahead = nowSeconds() + 120
  const signed = sign(session, 'revoke', operation({ device_id: device.kid, compromised_since: ahead }), ahead)
  t.is(await world().claim(signed), 'ok')
  const { compromised_since } = resultOf(await world().store.apply('revoke', signed.text))
  t.true((compromised_since as number) < ahead)
  t.is((await declared(device)).length, 1)
})

test('not_owner, device_blocked: a date is declared by the owner alone, and not of what the platform blocked', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const [device, blocked] = [await world().newDevice(theirs), await world().newDevice(mine)]
  await setLevel(world().owner, blocked.kid, 'blocked')
  const since = { compromised_since: nowSeconds() - 10 }
  t.is(codeOf(await revoke(mine, device, since)), 'not_owner')
  t.is(codeOf(await revoke(mine, blocked, since)), 'device_blocked')
  t.deepEqual([...(await declared(device)), ...(await declared(blocked))], [])
})
