import { encodeKey, verifyKeyProof } from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import type { ServiceName } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { enter, halt, keyOf, newDevice, openLiar, readBody, until } from '../gateway/_gateway.ts'
import { createWire } from '../outbox/_sending.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { createMachine, logger } from './_machine.ts'
import { keyFactsOf } from './change.ts'

// A device's rotation against the gateway's processes; who lies has its keys. `rotation.test.ts` has what needs no gateway.
let stack: Stack
let liar: Awaited<ReturnType<typeof openLiar>>
test.before(async () => {
  stack = await testStack({ replicas: { 'audit-chain': 0 } })
  await stack.whenReady()
  liar = await openLiar(stack, [])
})
test.after.always(async () => {
  await liar?.close()
  await stack?.stop()
})

/** A device that the gateway knows, connected; its outbox is attached by the test, and told what is heard if that is wanted. */
const create = async (t: ExecutionContext, { isLost = false, isHeard = true } = {}) => {
  const device = await newDevice(stack)
  const machine = await createMachine(t, { ...device, gatewayId: stack.descriptor.gateway_id })
  const daemon = await machine.open(() => void askInForce())
  /** As the daemon does: under the next of its keys where the gateway does not know this one any more. */
  const askInForce = async (): Promise<void> => {
    const answer = await client.ask('status', {}, { deadlineMs: 90_000 })
    if (answer.ok) return daemon.rotation.learn(keyFactsOf(answer.result))
    t.is(answer.code, 'signature_mismatch')
    await daemon.ring.reload()
    t.true(daemon.ring.tryAnother())
    await askInForce()
  }
  const { client, receivers, items } = await enter(t, stack, device, { signer: daemon.ring.signer })
  if (isHeard) receivers.push(daemon.outbox.receive)
  const say = async (by: ServiceName, item: object): Promise<void> => {
    const { length } = items
    const { digest } = await until(() => wire.sent.at(-1), 'the request')
    liar.say(device, 'receipt', { items: [{ ...item, digest }] }, { by: keyOf(stack, by) })
    await until(() => items.length > length, 'the receipt')
    await daemon.rotation.idle()
  }
  const wire = createWire(client, () => isLost)
  return { ...daemon, ...wire, device, machine, items, say }
}
type Created = Awaited<ReturnType<typeof create>>
const inForce = ({ changes }: Created): string => changes.identity().public_key
const untilSettled = ({ changes }: Created): Promise<unknown> =>
  until(() => !changes.identity().changes?.length, 'the end of the change')

test.serial(
  'a rotation is proven by the new key over the one in force, and only the registrar’s receipt ends it',
  async (t) => {
    const created = await create(t)
    const { rotation, changes, outbox, sender, sent, say, ring, machine, device } = created
    await rotation.rotate()
    const goOn = halt(t, stack, 'registrar')
    outbox.attach(sender)
    const [{ bytes } = { bytes: new Uint8Array() }] = sent
    const { op_id, device_id, new_public_key = '', proof } = readBody(bytes) as Record<string, string>
    t.is(device_id, device.kid)
    const aud = stack.descriptor.gateway_id
    const change = { kind: 'rotate', aud, device_id, op_id, old_public_key: machine.publicKey, new_public_key }
    t.true(verifyKeyProof(change as never, String(proof)))
    for (const service of ['verifier', 'trust-evaluator'] as const) await say(service, { ok: true })
    t.deepEqual([inForce(created), machine.names().length], [machine.publicKey, 2])
    goOn()
    await untilSettled(created)
    await rotation.idle()
    const identity = changes.identity()
    t.deepEqual([identity.public_key, identity.key_number], [new_public_key, 2])
    t.deepEqual(machine.names(), [identity.key_name])
    t.is(encodeKey(ring.inUse().publicKey), new_public_key)
  },
)

test.serial('a refusal for good drops the new key only when the gateway says which one is in force', async (t) => {
  const created = await create(t, { isLost: true })
  const { rotation, outbox, sender, say, asked, machine } = created
  await rotation.rotate()
  const goOn = halt(t, stack, 'registrar')
  outbox.attach(sender)
  await say('registrar', { ok: false, code: 'proof_mismatch' })
  t.deepEqual([machine.names().length, asked()], [2, 1])
  goOn()
  await untilSettled(created)
  await rotation.idle()
  t.deepEqual([machine.names(), inForce(created)], [['device-1'], machine.publicKey])
})

test.serial('a refusal that is younger than the change, whose result is gone, loses nothing', async (t) => {
  const created = await create(t, { isHeard: false })
  const { rotation, changes, outbox, sender, sent, items, asked, machine } = created
  await rotation.rotate()
  const next = changes.identity().changes?.[0]?.public_key
  outbox.attach(sender)
  await until(() => items.some(({ ok, digest }) => ok && digest === sent[0]?.digest), 'the result')
  outbox.receive([{ digest: sent[0]?.digest ?? '', ok: false, code: 'op_expired' }], 'registrar')
  await untilSettled(created)
  await rotation.idle()
  t.deepEqual([inForce(created), changes.identity().key_number, asked()], [next, 2, 1])
  t.is(machine.names().length, 1)
})

test.serial(
  'a daemon that died at any step is followed by one that goes on with the same operation and the same key',
  async (t) => {
    const created = await create(t, { isHeard: false })
    const { changes, machine, sender, sent, items } = created
    const { op_id, key_name } = await changes.begin('rotate')
    // Of what was kept: the intent alone, then intent and key, then the operation too.
    const kept = changes.identity()
    const made = String(kept.changes?.[0]?.public_key)
    machine.settings.set('identity', { ...kept, changes: [{ kind: 'rotate', op_id, key_name }] })
    for (let round = 0; round < 3; round += 1) {
      const next = await machine.open()
      await next.rotation.resume()
      t.deepEqual(next.changes.identity().changes, [{ kind: 'rotate', op_id, key_name, public_key: made }])
      t.is(JSON.parse(next.outbox.find(op_id)?.body ?? '{}').new_public_key, made)
    }
    // The result is on the disk, and what follows from it was not done any more.
    const died = createOutbox({ store: machine.store, logger })
    died.attach(sender)
    const [result] = await until(() => {
      const [{ digest } = { digest: '' }] = sent
      const heard = items.filter((item) => item.digest === digest)
      return heard.length > 0 && heard
    }, 'the result')
    died.receive(result === undefined ? [] : [result], 'registrar')
    died.close()
    t.deepEqual([created.outbox.find(op_id)?.state, inForce(created)], ['done', machine.publicKey])
    const last = await machine.open()
    await last.rotation.resume()
    t.deepEqual([inForce(created), changes.identity().key_number], [made, 2])
    t.is(machine.names().length, 1)
  },
)
