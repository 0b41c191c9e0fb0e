import type { AddressedReceipt } from '@lenserfight/bus'
import { encodeBase64Url, envelopeDigest, generateKeyPair, verifyEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import { createStore } from '../src/commit.ts'
import type { AppliedKind } from '../src/decode.ts'
import { createHandler } from '../src/handle.ts'
import { addSetting, attestation, heartbeat, runAndAttest, runStart, startRun } from './_bodies.ts'
import { createWorld, type Device, gatewayId, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

/** The service over the real database: what it says of one envelope, and what it logs. */
const handleOne = async (kind: AppliedKind, device: Device, text: string, stored = Date.now()) => {
  const receipts: AddressedReceipt[] = []
  const alarms: Record<string, unknown>[] = []
  const { handle } = createHandler({
    gatewayId,
    store: createStore(world.evaluator),
    sendReceipts: (more) => receipts.push(...more),
    logger: createLogger({
      ...{ service: 'trust-evaluator', level: 'error' },
      destination: { write: (line: string) => alarms.push(JSON.parse(line)) },
    }),
  })
  const digest = encodeBase64Url(envelopeDigest(Buffer.from(text)))
  await handle([
    { kind, lenser: device.lenser, kid: device.id, digest, stored: String(BigInt(stored) * 1_000_000n), text },
  ])
  return { item: receipts[0]?.item, alarms }
}

/** Gives a device another key; the one before is good for so many seconds more, or not at all. */
const replaceKey = async (device: Device, overlap: number | null): Promise<Device> => {
  const keys = generateKeyPair()
  await world.owner.query(
    `UPDATE devices.registered_devices
        SET public_key = $2, key_number = key_number + 1, former_key_until = now() + $3 * interval '1 second',
            former_public_key = CASE WHEN $3::int IS NOT NULL THEN public_key END
      WHERE id = $1`,
    [device.id, keys.publicKey, overlap],
  )
  return { ...device, keys, keyNumber: (device.keyNumber ?? 1) + 1 }
}
const expireKey = (device: Device, stored: number) =>
  world.owner.query('UPDATE devices.registered_devices SET key_expires_at = to_timestamp($2 / 1e3) WHERE id = $1', [
    ...[device.id, stored],
  ])

test('an attestation stays checkable against the key that its device had then, by number, through every change', async (t) => {
  const setting = await addSetting(world)
  const runs: string[] = []
  let device = setting.device
  for (const overlap of [30, null, 30]) {
    const { result } = await runAndAttest(world, { ...setting, device })
    runs.push(result.run_id)
    device = await replaceKey(device, overlap)
  }
  const { rows } = await world.owner.query<{ wire: Buffer; number: number; public_key: Buffer }>(
    `SELECT a.wire, k.number, k.public_key FROM execution.attestations a
       JOIN devices.device_keys k ON k.device_id = a.device_id AND k.number = a.key_number
      WHERE a.run_id = ANY ($1) ORDER BY k.number`,
    [runs],
  )
  t.deepEqual(
    rows.map(({ number }) => number),
    [1, 2, 3],
  )
  for (const { wire, public_key } of rows) t.notThrows(() => verifyEnvelope(wire, public_key))
  t.throws(() => verifyEnvelope(rows[0]?.wire as Buffer, rows[1]?.public_key as Buffer))
})

test('what was claimed under the former key is applied after the rotation, however late', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const text = await world.seal(setting.device, attestation(permit))
  // Two rotations since, and neither overlap still lasts.
  await replaceKey(await replaceKey(setting.device, 1), 1)
  await new Promise((done) => setTimeout(done, 1200))
  const { item, alarms } = await handleOne('attestation', setting.device, text, Date.now() - 1200)
  t.like(item, { ok: true })
  t.deepEqual(alarms, [])
})

test('what a dead key signed is refused by the applier too: stored after the overlap, or its key reproved', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const before = await world.seal(setting.device, attestation(permit))
  await replaceKey(setting.device, 0)
  const after = await world.seal(setting.device, attestation(permit), { stored: Date.now() + 2000 })
  const late = await handleOne('attestation', setting.device, after, Date.now() + 2000)
  t.like(late.item, { ok: false, code: 'signature_mismatch' })
  t.deepEqual(late.alarms, [], 'a race that its sender lost is nobody’s fault')
  // The database says so itself, whatever the evaluator told it.
  const [outcome] = await world.apply('attestation', [after])
  t.is(outcome?.code, 'signature_mismatch')

  const { device } = setting
  await replaceKey({ ...device, keyNumber: 2 }, null)
  t.like((await handleOne('attestation', device, before)).item, { ok: false, code: 'signature_mismatch' })
  t.is((await world.apply('attestation', [before]))[0]?.code, 'signature_mismatch')
  t.is((await world.owner.query('SELECT FROM execution.attestations WHERE run_id = $1', [permit.run_id])).rowCount, 0)
})

test('law 2: a committed result outranks the end of the key that asked for it', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const text = await world.seal(setting.device, attestation(permit))
  const beat = await world.seal(setting.device, heartbeat())
  const [first] = await world.apply('attestation', [text])
  const [beaten] = await world.apply('heartbeat', [beat])
  t.true(first?.ok)
  await replaceKey(setting.device, null)
  t.deepEqual((await world.apply('attestation', [text]))[0], first)
  t.deepEqual((await world.apply('heartbeat', [beat]))[0], beaten)
  t.is((await world.send(setting.device, heartbeat())).code, 'signature_mismatch', 'a new one of that key')
})

test('key_expired: the applier judges the end of a key by the time at which the broker stored it', async (t) => {
  const setting = await addSetting(world)
  const { device } = setting
  const permit = await startRun(world, setting)
  const end = Date.now() - 10_000
  await expireKey(device, end)
  t.is((await world.send(device, runStart(), { stored: end + 1000 })).code, 'key_expired')
  t.is((await world.send(device, attestation(permit), { stored: end + 1000 })).code, 'key_expired')
  t.true((await world.send(device, heartbeat(), { stored: end + 1000 })).ok)
  t.true((await world.send(device, attestation(permit), { stored: end - 1000 })).ok)
})

test('a heartbeat’s result says which key is in force and until when, and is the same when it comes again', async (t) => {
  const { device } = await addSetting(world)
  const next = await replaceKey(device, 30)
  const text = await world.seal(next, heartbeat())
  const [first] = await world.apply('heartbeat', [text])
  t.is(first?.result.key_number, 2)
  t.true(first?.result.key_expires_at > Date.now() / 1000 + 80 * 86_400)
  const end = Math.floor(Date.now() / 1000) + 60
  await expireKey(device, end * 1000)
  t.deepEqual((await world.apply('heartbeat', [text]))[0], first)
  t.is((await world.send(next, heartbeat())).result.key_expires_at, end)
})
