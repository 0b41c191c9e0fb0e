import { encodeKey, generateKeyPair, verifyKeyProof } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { uuid } from '../_enrolled.ts'
import { createMachine } from './_machine.ts'
import { fingerprintOf } from './fingerprint.ts'

const day = 24 * 3600
const inForce = (publicKey: string, more: object = {}) => ({ fingerprint: fingerprintOf(publicKey), ...more })
const endsIn = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds

test('the key is rotated by itself near its end, and at once where its owner brings that forward', async (t) => {
  const near = await createMachine(t)
  const { rotation, changes } = await near.open()
  rotation.learn(inForce(near.publicKey, { number: 1, expiresAt: endsIn((limits.keyWarnDays + 1) * day) }))
  await rotation.idle()
  t.is(changes.identity().changes, undefined)
  const asked = await createMachine(t)
  const required = await asked.open()
  required.rotation.learn(inForce(asked.publicKey, { number: 1, expiresAt: endsIn(80 * day) }))
  await required.rotation.idle()
  t.is(required.changes.identity().changes, undefined)
  required.rotation.learn({ number: 1, expiresAt: endsIn(29 * day) })
  await required.rotation.idle()
  t.is(required.changes.identity().changes?.length, 1)

  rotation.learn(inForce(near.publicKey, { number: 1, expiresAt: endsIn(limits.keyWarnDays * day - 60) }))
  await rotation.idle()
  t.is(changes.identity().changes?.length, 1)
})

test('the end of another key is not taken for this one’s', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes } = await machine.open()
  rotation.learn({ number: 2, expiresAt: endsIn(60) })
  rotation.learn(inForce(encodeKey(generateKeyPair().publicKey), { number: 1, expiresAt: endsIn(60) }))
  await rotation.idle()
  t.deepEqual([changes.identity().key_expires_at, changes.identity().changes], [undefined, undefined])
})

test('a rotation that a full disk broke off between its key and its request goes on when there is room', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, outbox } = await machine.open()
  machine.fill(true)
  rotation.learn(inForce(machine.publicKey, { expiresAt: endsIn(60) }))
  await rotation.idle()
  t.deepEqual([changes.identity().changes?.length, outbox.status().open], [1, 0])
  machine.fill(false)
  rotation.learn(inForce(machine.publicKey, { expiresAt: endsIn(60) }))
  await rotation.idle()
  t.is(outbox.find(changes.identity().changes?.[0]?.op_id ?? '')?.kind, 'rotate')
})

test('a reproof overtakes a rotation that is under way, and needs no former key', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, outbox } = await machine.open()
  const { opId } = await rotation.rotate()
  const { op_id, body } = await rotation.prepare()
  t.deepEqual((await rotation.prepare()).body, body, 'taken again it is the same')
  const claim = { kind: 'reprove', aud: uuid('a'), op_id, old_public_key: null, ...body } as const
  t.true(verifyKeyProof(claim, body.proof))
  const settled = rotation.settle(op_id, { ok: true, result: { key_number: 3 } })
  rotation.learn(inForce(body.new_public_key, { number: 3 }))
  await settled
  const { public_key, key_number } = changes.identity()
  t.deepEqual([public_key, key_number, changes.identity().changes], [body.new_public_key, 3, []])
  t.is(machine.names().length, 1)
  // What the gateway says of the overtaken one changes nothing.
  await rotation.settle(opId, { ok: true, result: { key_number: 2 } })
  t.is(changes.identity().public_key, body.new_public_key)
  t.is(outbox.find(opId)?.state, 'waiting')
})

test('keys take turns while a change is open, and one that is gone is not missed', async (t) => {
  const machine = await createMachine(t)
  const { ring, changes } = await machine.open()
  t.false(ring.tryAnother())
  const { body } = await changes.begin('rotate')
  await ring.reload()
  const used = () => encodeKey(ring.inUse().publicKey)
  t.deepEqual([used(), ring.tryAnother(), used()], [machine.publicKey, true, body.new_public_key])
  t.deepEqual([ring.tryAnother(), used()], [true, machine.publicKey])
  changes.adopt(changes.identity().changes?.[0]?.op_id ?? '', {})
  await changes.sweep()
  await ring.reload()
  t.deepEqual([used(), ring.tryAnother()], [body.new_public_key, false])
})

test('a reproof that was begun and never ended does not keep a key from being rotated in time', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes } = await machine.open()
  await rotation.prepare()
  rotation.learn(inForce(machine.publicKey, { number: 1, expiresAt: endsIn(60) }))
  await rotation.idle()
  t.deepEqual(
    changes.identity().changes?.map(({ kind }) => kind),
    ['reprove', 'rotate'],
  )
})

test('what somebody on the socket says of a change takes no key from this device', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, ring, asked } = await machine.open()
  const { op_id, body } = await rotation.prepare()
  const { opId } = await rotation.rotate()
  const used = () => encodeKey(ring.inUse().publicKey)
  await Promise.all([op_id, opId].map((id) => rotation.settle(id, { ok: true, result: inForce(body.new_public_key) })))
  t.deepEqual([changes.identity().public_key, machine.names().length], [machine.publicKey, 3])
  t.is(used(), body.new_public_key, 'it is tried: the gateway may know it')
  const refused = rotation.settle(op_id, { ok: false, code: 'op_expired' })
  await rotation.idle()
  t.deepEqual([machine.names().length, asked()], [3, 1])
  rotation.learn(inForce(machine.publicKey))
  await refused
  t.deepEqual([machine.names().length, used()], [2, machine.publicKey])
})
