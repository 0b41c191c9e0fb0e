import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  encodeBase64Url,
  encodeKey,
  envelopeDigest,
  generateKeyPair,
  newUuidV7,
  verifyKeyProof,
} from '@lenserfight/envelope'
import { ensureKeyPair, openKeychain } from '@lenserfight/keychain'
import { createLogger } from '@lenserfight/runtime'
import { limits, type ReceiptItem } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { createOutbox } from '../outbox/outbox.ts'
import { createSettings } from '../settings.ts'
import { openStore } from '../store.ts'
import { fingerprintOf } from './fingerprint.ts'
import { createKeyChanges } from './key-changes.ts'
import { openKeyRing } from './key-ring.ts'
import { createRotation } from './rotation.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const uuid = (last: string): string => `00000000-0000-4000-8000-00000000000${last}`
const day = 24 * 3600

/** A machine with real state and real key files, whose gateway is the test. */
const createMachine = async (t: ExecutionContext) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const keychain = await openKeychain({ fileFallback: '1', folder: join(folder, 'keys'), warn: () => {} })
  const first = await ensureKeyPair(keychain, 'device-1')
  const store = openStore(join(folder, 'state.db'))
  t.teardown(store.close)
  const settings = createSettings(store)
  settings.set('identity', {
    ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'm', device_type: 'ci', os: 'x' },
    ...{ gateway_id: uuid('a'), lenser: uuid('b'), device_id: uuid('c'), challenge_op: newUuidV7() },
    ...{ public_key: encodeKey(first.publicKey), challenge: 'AAAAAAAAAAAAAAAAAAAAAA', key_number: 1 },
  })
  const open = async () => {
    const changes = createKeyChanges({ settings, keychain: async () => keychain })
    const ring = await openKeyRing({ identity: changes.identity, keychain: async () => keychain })
    const sent: { body: Record<string, unknown>; digest: string }[] = []
    let asked = 0
    const outbox = createOutbox({
      store,
      logger,
      onEnded: ({ kind, opId }) => {
        if (kind === 'rotate') rotation.ended(opId)
      },
    })
    const rotation = createRotation({
      ...{ changes, outbox, logger, mayRotate: () => true, onKeys: ring.reload, random: () => 0 },
      tryKey: async (publicKey) => {
        await ring.reload()
        ring.use(publicKey)
      },
      askInForce: () => {
        asked += 1
      },
    })
    const attach = (): void =>
      outbox.attach({
        kinds: ['rotate'],
        sign: (body) => {
          const { bytes } = ring.signer.sign({ body })
          const digest = encodeBase64Url(envelopeDigest(bytes))
          sent.push({ body: body as Record<string, unknown>, digest })
          return { bytes, digest }
        },
        publish: () => {},
      })
    const receive = async (service: string, item: Omit<ReceiptItem, 'digest'>): Promise<void> => {
      outbox.receive([{ ...item, digest: sent.at(-1)?.digest ?? '' }], service)
      await rotation.idle()
    }
    t.teardown(outbox.close)
    return { changes, ring, outbox, rotation, attach, receive, sent, asked: () => asked }
  }
  const names = () => readdirSync(join(folder, 'keys')).map((name) => name.replace(/\.key$/, ''))
  /** The disk takes no operation for the outbox. */
  const fill = (isFull: boolean): void => {
    const refusal = `CREATE TRIGGER full BEFORE INSERT ON operations BEGIN SELECT raise(ABORT, 'full'); END`
    store.run(isFull ? refusal : 'DROP TRIGGER full')
  }
  return { open, names, settings, fill, publicKey: encodeKey(first.publicKey) }
}

const inForce = (publicKey: string, more: object = {}) => ({ fingerprint: fingerprintOf(publicKey), ...more })
const endsIn = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds

test('a rotation is proven by the new key over the one in force, and only the registrar’s receipt ends it', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, attach, receive, sent, ring } = await machine.open()
  await rotation.rotate()
  attach()
  const { op_id, device_id, new_public_key = '', proof } = (sent[0]?.body ?? {}) as Record<string, string>
  const change = { kind: 'rotate', aud: uuid('a'), device_id, op_id, old_public_key: machine.publicKey, new_public_key }
  t.true(verifyKeyProof(change as never, String(proof)))
  for (const service of ['verifier', 'trust-evaluator', 'broker-auth']) await receive(service, { ok: true })
  t.deepEqual([changes.identity().public_key, machine.names().length], [machine.publicKey, 2])
  await receive('registrar', { ok: true, result: { key_number: 2, key_expires_at: endsIn(90 * day) } })
  const identity = changes.identity()
  t.deepEqual([identity.public_key, identity.key_number, identity.changes], [new_public_key, 2, []])
  t.deepEqual(machine.names(), [identity.key_name])
  t.is(encodeKey(ring.inUse().publicKey), new_public_key)
})

test('a refusal for good drops the new key only when the gateway says which one is in force', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, attach, receive, asked } = await machine.open()
  await rotation.rotate()
  attach()
  await receive('registrar', { ok: false, code: 'proof_mismatch' })
  t.deepEqual([machine.names().length, asked()], [2, 1])
  rotation.learn(inForce(machine.publicKey))
  await rotation.idle()
  t.deepEqual([machine.names(), changes.identity().public_key], [['device-1'], machine.publicKey])
})

test('a refusal that is younger than the change, whose result is gone, loses nothing', async (t) => {
  const machine = await createMachine(t)
  const { rotation, changes, attach, receive } = await machine.open()
  await rotation.rotate()
  const next = String(changes.identity().changes?.[0]?.public_key)
  attach()
  await receive('registrar', { ok: false, code: 'op_expired' })
  rotation.learn(inForce(next, { number: 2 }))
  await rotation.idle()
  t.is(changes.identity().public_key, next)
  t.is(machine.names().length, 1)
})

test('a daemon that died at any step is followed by one that goes on with the same operation and the same key', async (t) => {
  const machine = await createMachine(t)
  const first = await machine.open()
  const { op_id, key_name } = await first.changes.begin('rotate')
  // Of what was kept: the intent alone, then intent and key, then the operation too.
  const kept = first.changes.identity()
  const made = String(kept.changes?.[0]?.public_key)
  machine.settings.set('identity', { ...kept, changes: [{ kind: 'rotate', op_id, key_name }] })
  for (let round = 0; round < 3; round += 1) {
    const { rotation, changes, outbox } = await machine.open()
    await rotation.resume()
    t.deepEqual(changes.identity().changes, [{ kind: 'rotate', op_id, key_name, public_key: made }])
    t.is(JSON.parse(outbox.find(op_id)?.body ?? '{}').new_public_key, made)
  }
  const { attach, receive, outbox } = await machine.open()
  attach()
  outbox.detach()
  // The result is on the disk, and what follows from it was not done any more.
  await receive('registrar', { ok: true, result: { key_number: 2 } })
  const last = await machine.open()
  await last.rotation.resume()
  t.is(last.changes.identity().public_key, made)
  t.is(machine.names().length, 1)
})

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
  const { rotation, changes, outbox, attach, sent } = await machine.open()
  machine.fill(true)
  rotation.learn(inForce(machine.publicKey, { expiresAt: endsIn(60) }))
  await rotation.idle()
  t.deepEqual([changes.identity().changes?.length, outbox.status().open], [1, 0])
  machine.fill(false)
  rotation.learn(inForce(machine.publicKey, { expiresAt: endsIn(60) }))
  await rotation.idle()
  attach()
  t.deepEqual(
    sent.map(({ body }) => [body.kind, body.op_id]),
    [['rotate', changes.identity().changes?.[0]?.op_id]],
  )
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
