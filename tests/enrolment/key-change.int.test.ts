import { setTimeout as sleep } from 'node:timers/promises'
import { createPool, type Pool } from '@lenserfight/db'
import {
  encodeBase64Url,
  encodeKey,
  generateKeyPair,
  type KeyChange,
  newUuidV7,
  signEnvelope,
  signKeyProof,
} from '@lenserfight/envelope'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { CodedError, encodeVerifiedLine, okSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeSession, nextCounter, type Signatory, setLevel } from '@lenserfight/testkit'
import { connectClient, type DeviceClient, type Settled } from '@lenserfight/testkit/device'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'

let stack: Stack
let owner: Pool
test.before(async () => {
  stack = await testStack({ replicas: { registrar: 2, verifier: 2 } })
  owner = createPool({ ...stack.owner, max: 8, logger: createLogger({ service: 'test', level: 'silent' }) })
})
test.after.always(async () => {
  await owner?.end()
  await stack?.stop()
})

const connect = async (t: ExecutionContext, signatory: Signatory): Promise<DeviceClient> => {
  const client = await connectClient({
    ...{ descriptor: stack.descriptor, keyList: stack.gatewayKeys.list, signatory },
    resend: { floorMs: 1000, ceilingMs: 3000 },
  })
  t.teardown(client.close)
  return client
}
/** Connects as soon as the gateway knows the key. */
const connectWhenAdmitted = async (t: ExecutionContext, signatory: Signatory): Promise<DeviceClient> => {
  for (const end = Date.now() + 60_000; ; await sleep(100)) {
    const client = await connect(t, signatory).catch((error: unknown) => {
      if (!(error instanceof CodedError) || error.code !== 'connection_refused' || Date.now() > end) throw error
    })
    if (client !== undefined) return client
  }
}
/** An account with an approved device, and its owner's session. */
const setUp = async (t: ExecutionContext) => {
  t.timeout(120_000)
  const { lenser } = await makeAccount(owner)
  const device = await makeDevice(owner, { lenser })
  return { device, client: await connect(t, device), session: await connect(t, await makeSession(owner, lenser)) }
}
/** A change of a device's key, as its sender says it; `proven` over what the new key signs. */
const changeOf = (kind: 'rotate' | 'reprove', device: Signatory, to: Signatory, proven: Partial<KeyChange> = {}) => {
  const body = { op_id: newUuidV7(), device_id: device.kid, new_public_key: encodeKey(to.keys.publicKey) }
  const old_public_key = kind === 'rotate' ? encodeKey(device.keys.publicKey) : null
  const change = { kind, aud: stack.descriptor.gateway_id, ...body, old_public_key, ...proven }
  return { kind, ...body, proof: signKeyProof(change, to.keys.privateKey) }
}
const withNewKey = (device: Signatory): Signatory => ({ ...device, keys: generateKeyPair() })
const heartbeat = { kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' } as const
const codeOf = ({ outcome }: Settled): string => (outcome.ok ? 'ok' : (outcome.code ?? 'none'))
const eventually = async (t: ExecutionContext, look: () => boolean | Promise<boolean>, what: string): Promise<void> => {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(50)) if (await look()) return
  t.fail(`waited in vain: ${what}`)
}
const keysOf = async ({ kid }: Signatory): Promise<string[]> => {
  const { rows } = await owner.query<{ how: string }>(
    'SELECT how FROM devices.device_keys WHERE device_id = $1 ORDER BY number',
    [kid],
  )
  return rows.map(({ how }) => how)
}
const refusedConnection = async (t: ExecutionContext, signatory: Signatory): Promise<void> => {
  const error = await t.throwsAsync(connect(t, signatory), { instanceOf: CodedError })
  t.is((error as CodedError).code, 'connection_refused')
}

test('a device rotates its key through every wall: both are heard for a while, the new one alone connects', async (t) => {
  const { device, client } = await setUp(t)
  const next = withNewKey(device)
  const say = changeOf('rotate', device, next)
  const { outcome } = await client.send(say)
  t.like(outcome.result, { device_id: device.kid, key_number: 2, public_key: encodeKey(next.keys.publicKey) })
  t.like((await client.send(heartbeat)).outcome, { ok: true }, 'in flight, signed by the former key')
  const renewed = await connect(t, next)
  const { outcome: beat } = await renewed.send(heartbeat)
  t.like(beat.result, { key_number: 2, key_expires_at: outcome.result?.key_expires_at as number })
  await refusedConnection(t, device)
  // What an edge does that crashed before it heard: the same operation, signed by the new key.
  t.deepEqual((await renewed.send(say)).outcome.result, outcome.result)
  t.deepEqual(await keysOf(device), ['registered', 'rotated'])

  await owner.query(
    "UPDATE devices.registered_devices SET former_key_until = now() - interval '1 second' WHERE id = $1",
    [device.kid],
  )
  void client.send(heartbeat)
  await eventually(t, () => (client.stats().refused.signature_mismatch ?? 0) > 0, 'the end of the former key')
  t.like((await renewed.send(heartbeat)).outcome, { ok: true })
})

test('proof_mismatch: nobody’s proof, or one for something else, rotates nothing over the bus', async (t) => {
  const { device, client } = await setUp(t)
  const next = withNewKey(device)
  const good = changeOf('rotate', device, next)
  for (const say of [
    { ...good, proof: changeOf('rotate', device, withNewKey(device)).proof },
    changeOf('rotate', device, next, { op_id: newUuidV7() }),
    changeOf('rotate', device, next, { device_id: newUuidV7() }),
    changeOf('rotate', device, next, { old_public_key: null }),
  ])
    t.is(codeOf(await client.send(say)), 'proof_mismatch')
  t.deepEqual(await keysOf(device), ['registered'])
})

test('two rotations at once over the bus: one wins, the other has a clear end, nobody is locked out', async (t) => {
  const { device, client } = await setUp(t)
  const both = [withNewKey(device), withNewKey(device)] as const
  const ends = await Promise.all(both.map((next) => client.send(changeOf('rotate', device, next))))
  t.deepEqual(ends.map(codeOf).toSorted(), ['ok', 'proof_mismatch'])
  const winner = both[ends.findIndex((end) => codeOf(end) === 'ok')] as Signatory
  t.like((await (await connect(t, winner)).send(heartbeat)).outcome, { ok: true })
})

test('law 5: a verifier that lies on the bus and in the database makes no rotation happen', async (t) => {
  const { device, client } = await setUp(t)
  const thief = withNewKey(device)
  const { kind, ...members } = changeOf('rotate', device, thief)
  const body = { kind, aud: stack.descriptor.gateway_id, counter: nextCounter(), ...members }
  const { envelope, bytes, digest } = signEnvelope({ kid: device.kid, key: thief.keys.privateKey, body })
  // Its database role claims that the device's key had signed it, and its bus user publishes that it was verified.
  const stored = `${Date.now()}000000`
  const verifier = createPool({
    ...{ ...stack.roleOf('verifier'), max: 1 },
    logger: createLogger({ service: 'test', level: 'silent' }),
  })
  t.teardown(() => verifier.end())
  const { rows } = await verifier.query('SELECT devices.fn_claim_ingress($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) AS verdicts', [
    ...[[device.kid], [Buffer.from(device.keys.publicKey).toString('hex')], 'LTG_INGRESS', [device.kid]],
    ...[[envelope.nonce], [envelope.iat], [kind], [Buffer.from(digest).toString('hex')], [1], [stored]],
  ])
  t.deepEqual(rows[0], { verdicts: ['ok'] })
  const bus = await connectWorker(stack, 'verifier')
  t.teardown(bus.close)
  const item = { lenser: device.lenser, kid: device.kid, digest: encodeBase64Url(digest), stored }
  await bus.publish(okSubject(kind), encodeVerifiedLine({ ...item, text: Buffer.from(bytes).toString() }))
  await eventually(t, () => client.stats().unknown === 1, 'the registrar’s refusal')
  t.deepEqual(await keysOf(device), ['registered'])
  t.like((await client.send(heartbeat)).outcome, { ok: true })
  await t.throwsAsync(verifier.query('SELECT * FROM devices.fn_device_rotate($1, $2)', [[], []]), {
    message: /permission denied/,
  })
})

test('an owner vouches for another key: proved, theirs alone, the old one dead at once, the device healthy again', async (t) => {
  const [{ device, client, session }, stranger] = [await setUp(t), await setUp(t)]
  await setLevel(owner, device.kid, 'unhealthy')
  const next = withNewKey(device)
  t.is(codeOf(await session.send(changeOf('reprove', device, next, { op_id: newUuidV7() }))), 'proof_mismatch')
  t.is(codeOf(await session.send(changeOf('reprove', device, next, { kind: 'rotate' }))), 'proof_mismatch')
  t.is(codeOf(await stranger.session.send(changeOf('reprove', device, next))), 'not_owner')
  t.deepEqual(await keysOf(device), ['registered'])
  const say = changeOf('reprove', device, next)
  const { outcome } = await session.send(say)
  t.like(outcome.result, { device_id: device.kid, key_number: 2, trust_level: 'approved' })
  t.deepEqual((await session.send(say)).outcome.result, outcome.result, 'asked again')
  await refusedConnection(t, device)
  t.like((await (await connect(t, next)).send(heartbeat)).outcome, { ok: true })
  await client.close()
  t.deepEqual(await keysOf(device), ['registered', 'reproved'])
})

test('a rotation that its owner requires is known within a heartbeat; past its time the device runs nothing, and may rotate', async (t) => {
  const { device, client, session } = await setUp(t)
  const require = (within_seconds: number) =>
    session.send({ kind: 'rotation_require', device_id: device.kid, within_seconds })
  const { outcome } = await require(900)
  const { outcome: beat } = await client.send(heartbeat)
  t.is(beat.result?.key_expires_at, outcome.result?.key_expires_at)
  t.like((await client.send({ kind: 'status' })).outcome.result, { key_expires_at: beat.result?.key_expires_at })
  t.is(codeOf(await require(0)), 'ok')
  // The connection that the key opened is cut: a run is the broker's to refuse from then on, and the verifier's until then.
  void client.send({ kind: 'run_start', command_hash: 'A'.repeat(43), inputs: [] })
  const isBack = async () => {
    const { rows } = await owner.query<{ due_at: Date | null }>(
      'SELECT due_at FROM devices.admissions WHERE kid = $1 ORDER BY id DESC LIMIT 1',
      [device.kid],
    )
    return rows[0]?.due_at === null
  }
  await eventually(t, isBack, 'it is let in as what an expired key is')
  t.like((await client.send(heartbeat)).outcome, { ok: true })
  const { rows: runs } = await owner.query('SELECT FROM execution.runs WHERE device_id = $1', [device.kid])
  t.is(runs.length, 0)
  const next = withNewKey(device)
  // Without an overlap the old key's connection is cut as it rotates, maybe before the receipt: the new key asks again.
  const change = changeOf('rotate', device, next)
  void client.send(change)
  const renewed = await connectWhenAdmitted(t, next)
  t.is(codeOf(await renewed.send(change)), 'ok', 'and it may still rotate')
  t.true(((await renewed.send(heartbeat)).outcome.result?.key_expires_at as number) > Date.now() / 1000 + 86_400)
})

test.serial(
  'law 2: registrars killed at any moment, every rotation has one result, one key and one record',
  async (t) => {
    const parties = await Promise.all(Array.from({ length: 6 }, () => setUp(t)))
    let over = false
    let kills = 0
    const killer = async (): Promise<void> => {
      // Twice at least, however quick the others are.
      while (kills < 2 || (!over && kills < 6)) {
        const worker = stack.workers('registrar')[kills % 2]
        await worker?.whenReady(30_000)
        await sleep(Math.random() * 100)
        worker?.send('SIGKILL')
        kills += 1
      }
    }
    const killing = killer()
    const results = await Promise.all(
      parties.map(async ({ device, client }) => {
        const next = withNewKey(device)
        const first = await client.send(changeOf('rotate', device, next))
        const after = withNewKey(device)
        const renewed = await connect(t, next)
        return [first, await renewed.send(changeOf('rotate', next, after))]
      }),
    )
    over = true
    await killing
    await stack.whenReady(30_000)
    t.true(kills > 1, `${kills} kills`)
    t.deepEqual(new Set(results.flat().map(codeOf)), new Set(['ok']))
    for (const { device, client } of parties) {
      t.deepEqual(await keysOf(device), ['registered', 'rotated', 'rotated'])
      t.deepEqual(client.contradictions, [])
      const { rows } = await owner.query(
        "SELECT DISTINCT op_id FROM devices.operations WHERE kid = $1 AND kind = 'rotate' AND code IS NULL",
        [device.kid],
      )
      t.is(rows.length, 2)
    }
  },
)
