import { generateKeyPair } from '@lenserfight/envelope'
import type { Signatory } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import { digestOf, eventually, startWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await startWorld(2)
})
test.after.always(() => world?.close())

const isVerified = (bytes: Uint8Array): boolean => world.tap.items.some(({ digest }) => digest === digestOf(bytes))
const publish = (device: Signatory, ...envelopes: readonly Uint8Array[]): void => {
  for (const bytes of envelopes) world.edge.publish(world.subject(device), bytes)
}
const verified = async (t: ExecutionContext, device: Signatory, ...envelopes: readonly Uint8Array[]): Promise<void> => {
  publish(device, ...envelopes)
  await eventually(t, async () => envelopes.every(isVerified), 'all of them verified')
}

/** Gives a device another key; the one before is good for so many seconds more, negative ones are over. */
const replaceKey = async (device: Signatory, overlap: number): Promise<Signatory> => {
  const keys = generateKeyPair()
  await world.owner.query(
    `UPDATE devices.registered_devices
        SET public_key = $2, key_number = key_number + 1, former_public_key = public_key,
            former_key_until = now() + $3 * interval '1 second'
      WHERE id = $1`,
    [device.kid, keys.publicKey, overlap],
  )
  return { ...device, keys }
}

test('within the overlap both keys are heard, in one batch too, whatever key each verifier had known', async (t) => {
  const device = await world.device()
  // So many that both verifiers get some, and keep the first key in mind.
  await verified(t, device, ...Array.from({ length: 40 }, () => world.sign(device)))
  const next = await replaceKey(device, 60)
  // By twos: the broker deals messages to the two in turn, and each is to have both keys in one batch.
  const mixed = Array.from({ length: 60 }, (_, place) => world.sign(place % 4 < 2 ? device : next))
  // They sleep while it comes, and then have it all at once.
  const verifiers = world.stack.workers('verifier')
  for (const worker of verifiers) worker.send('SIGSTOP')
  publish(device, ...mixed)
  await world.edge.flush()
  for (const worker of verifiers) worker.send('SIGCONT')
  await eventually(t, async () => mixed.every(isVerified), 'all of them verified')
  const { rows } = await world.owner.query<{ key_number: number; n: number }>(
    'SELECT key_number, count(*)::int AS n FROM devices.envelope_claims WHERE kid = $1 GROUP BY 1 ORDER BY 1',
    [device.kid],
  )
  t.deepEqual(rows, [
    { key_number: 1, n: 70 },
    { key_number: 2, n: 30 },
  ])
})

test('signature_mismatch: after the overlap the former key is dead, and the sender is told', async (t) => {
  const device = await world.device()
  await verified(t, device, world.sign(device))
  const next = await replaceKey(device, -1)
  const late = world.sign(device)
  publish(device, late)
  t.like(await world.edge.receiptOf(digestOf(late)), { ok: false, code: 'signature_mismatch' })
  await verified(t, device, world.sign(next))
  t.false(isVerified(late))
})

test('a key that nobody has is refused in the middle of a rotation, and its neighbours are not', async (t) => {
  const device = await world.device()
  await verified(t, device, world.sign(device))
  const next = await replaceKey(device, 60)
  const forged = world.sign({ ...device, keys: generateKeyPair() })
  publish(device, world.sign(device), forged)
  await verified(t, device, world.sign(next), world.sign(device))
  t.like(await world.edge.receiptOf(digestOf(forged)), { ok: false, code: 'signature_mismatch' })
  t.false(isVerified(forged))
})

test('key_expired: the sender of a run is told, and heartbeats go on', async (t) => {
  const device = await world.device()
  await world.owner.query(
    "UPDATE devices.registered_devices SET key_expires_at = now() - interval '1 second' WHERE id = $1",
    [device.kid],
  )
  const run = world.sign(device, {
    ...{ kind: 'run_start', op_id: crypto.randomUUID().replace(/^(.{14})./, '$17') },
    ...{ command_hash: 'A'.repeat(43), inputs: [] },
  })
  world.edge.publish(world.subject(device, 'run_start'), run)
  t.like(await world.edge.receiptOf(digestOf(run)), { ok: false, code: 'key_expired' })
  await verified(t, device, world.sign(device))
})
