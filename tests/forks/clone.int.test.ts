import { readFileSync } from 'node:fs'
import { connectEdge } from '@lenserfight/bus'
import { encodeBase64Url, encodeKey, generateKeyPair, signEnvelope, verifyEnvelope } from '@lenserfight/envelope'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { encodeVerifiedLine, inSubject, okSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, nextCounter, type Signatory } from '@lenserfight/testkit'
import { connectClient, type DeviceClient } from '@lenserfight/testkit/device'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: { verifier: 2, 'trust-evaluator': 2, registrar: 0 } })
  await stack.whenReady()
})
test.after.always(() => stack?.stop())

const inDatabase = <T>(use: (db: PgClient) => Promise<T>): Promise<T> => withClient(stack.owner, use)
const connect = (signatory: Signatory): Promise<DeviceClient> =>
  connectClient({
    ...{ descriptor: stack.descriptor, keyList: stack.gatewayKeys.list, signatory, waitForGateway: true },
    // A counter that a test names is in each attempt: there is to be one.
    resend: { floorMs: 100_000, ceilingMs: 100_000 },
  })
const newDevice = (lenser?: string): Promise<Signatory> =>
  inDatabase(async (db) => makeDevice(db, { lenser: lenser ?? (await makeAccount(db)).lenser }))
const beat = { kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' } as const
const runStart = { kind: 'run_start', command_hash: encodeKey(new Uint8Array(32)), inputs: [] } as const

interface Standing {
  readonly trust_level: string
  readonly trust_reason: string | null
}
const standingOf = ({ kid }: Signatory): Promise<Standing> =>
  inDatabase(async (db) => {
    const text = 'SELECT trust_level, trust_reason FROM devices.registered_devices WHERE id = $1'
    return (await db.query(text, [kid])).rows[0] as Standing
  })
const forksOf = ({ kid }: Signatory) =>
  inDatabase(async (db) => {
    const { rows } = await db.query('SELECT earlier, later FROM devices.identity_forks WHERE device_id = $1', [kid])
    return rows as { earlier: Buffer; later: Buffer }[]
  })
const suspicionsOf = ({ kid }: Signatory): Promise<number> =>
  inDatabase(async (db) => {
    const { rows } = await db.query('SELECT FROM devices.fork_suspicions WHERE device_id = $1', [kid])
    return rows.length
  })
const until = async (holds: () => Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + 60_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error('waited 60 s')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
/** What is written after the last line break may be half a line. */
const logLines = (): Record<string, unknown>[] =>
  stack.workers('trust-evaluator').flatMap(({ log }) =>
    readFileSync(log, 'utf8')
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  )

test('two programs that use one key are noticed: the device is unhealthy, both envelopes are kept and verify', async (t) => {
  t.timeout(120_000)
  const device = await newDevice()
  const [original, clone] = [await connect(device), await connect(device)]
  // Each counts on from the same state, as a machine and its copy do.
  const from = nextCounter()
  for (let n = 0; n < 3; n += 1) await original.send({ ...beat, counter: from + n })
  await clone.send({ ...beat, counter: from })
  await until(async () => (await standingOf(device)).trust_level === 'unhealthy')
  t.deepEqual(await standingOf(device), { trust_level: 'unhealthy', trust_reason: 'identity_forked' })
  const [fork] = await forksOf(device)
  const [earlier, later] = [fork?.earlier, fork?.later].map((wire) =>
    verifyEnvelope(wire as Buffer, device.keys.publicKey),
  )
  t.like(
    [earlier, later],
    [
      { kid: device.kid, body: { counter: from } },
      { kid: device.kid, body: { counter: from } },
    ],
  )
  t.not(earlier?.nonce, later?.nonce)
  t.true((await original.send(beat)).outcome.ok, 'unhealthy devices are heard')
  const said = () => logLines().find(({ event, kid }) => event === 'identity_forked' && kid === device.kid)
  // It is said once the database has it.
  await until(async () => said() !== undefined)
  t.like(said(), { level: 'warn', key_number: 1 })
  await Promise.all([original.close(), clone.close()])
})

test('lost receipts, resends, redeliveries to several verifiers and evaluators, and reordering blame nobody', async (t) => {
  t.timeout(180_000)
  const device = await newDevice()
  const client = await connectClient({
    ...{ descriptor: stack.descriptor, keyList: stack.gatewayKeys.list, signatory: device, waitForGateway: true },
    // So short that most are signed anew before anything is heard of the first.
    resend: { floorMs: 1, ceilingMs: 2000 },
  })
  t.teardown(client.close)
  const ends = Array.from({ length: 30 }, (_, n) => client.send(n % 3 === 0 ? beat : runStart))
  // Each is started again, and what it had under way comes again, to whichever of the two.
  for (const service of ['verifier', 'trust-evaluator'] as const) stack.workers(service)[0]?.send('SIGKILL')
  for (const { outcome } of await Promise.all(ends)) t.like(outcome, { ok: true })
  t.true(client.stats().resent > 0)
  // Minutes late within one series: long gaps, and what was drawn early sent last.
  const late = nextCounter()
  for (let n = 0; n < 5; n += 1) nextCounter()
  await client.send(beat)
  const patient = await connect(device)
  t.teardown(patient.close)
  await patient.send({ ...beat, counter: late })
  t.is(await suspicionsOf(device), 0)
  t.deepEqual(await forksOf(device), [])
  t.is((await standingOf(device)).trust_level, 'approved')
  t.deepEqual(client.contradictions, [])
})

test('law 5: a compromised verifier that invents envelopes under a device’s name frames nobody', async (t) => {
  t.timeout(120_000)
  const victim = await newDevice()
  const client = await connect(victim)
  await client.send(beat)
  const counter = nextCounter()
  await client.send({ ...beat, counter })
  const forged = signEnvelope({
    ...{ kid: victim.kid, key: generateKeyPair().privateKey },
    body: { ...beat, aud: stack.descriptor.gateway_id, counter },
  })
  const digest = Buffer.from(forged.digest)
  const stored = BigInt(Date.now()) * 1_000_000n
  // It claims as its role may, under the key on record, and publishes what it claimed.
  await withClient(stack.roleOf('verifier'), async (db) => {
    const { rows } = await db.query('SELECT devices.fn_claim_ingress($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) AS verdicts', [
      ...[[victim.kid], [Buffer.from(victim.keys.publicKey).toString('hex')], 'LTG_INGRESS', [victim.kid]],
      ...[[forged.envelope.nonce], [forged.envelope.iat], ['heartbeat'], [digest.toString('hex')], [1e9], [stored]],
    ])
    t.deepEqual(rows, [{ verdicts: ['ok'] }])
  })
  const line = encodeVerifiedLine({
    ...{ lenser: victim.lenser, kid: victim.kid, digest: encodeBase64Url(forged.digest) },
    ...{ stored: String(stored), text: forged.text },
  })
  const verifier = await connectWorker(stack, 'verifier')
  await verifier.publish(okSubject('heartbeat'), line)
  const isAlarm = ({ event, kid }: Record<string, unknown>): boolean =>
    event === 'verifier_disagrees' && kid === victim.kid
  await until(async () => logLines().some(isAlarm))
  t.true((await client.send(beat)).outcome.ok)
  t.is(await suspicionsOf(victim), 0)
  t.deepEqual(await forksOf(victim), [])
  t.is((await standingOf(victim)).trust_level, 'approved')
  await Promise.all([verifier.close(), client.close()])
})

test('another device of the same account cannot speak in a device’s name, nor count for it', async (t) => {
  t.timeout(120_000)
  const victim = await newDevice()
  const attacker = await newDevice(victim.lenser)
  const [client, hostile] = [await connect(victim), await connect(attacker)]
  const counter = nextCounter()
  await client.send({ ...beat, counter })
  // The same counter under its own name is another series.
  t.true((await hostile.send({ ...beat, counter })).outcome.ok)
  // The victim's name over the attacker's key, through the attacker's own door and through the victim's.
  const { url, gateway_id: gatewayId } = stack.descriptor
  const bus = await connectEdge({ ...attacker, url, gatewayId, key: attacker.keys.privateKey, waitForGateway: true })
  const { bytes } = signEnvelope({
    ...{ kid: victim.kid, key: attacker.keys.privateKey },
    body: { ...beat, aud: gatewayId, counter },
  })
  for (const { lenser, kid } of [attacker, victim]) bus.publish(inSubject({ lenser, kid, kind: 'heartbeat' }), bytes)
  t.true((await client.send(beat)).outcome.ok)
  t.true((await hostile.send(beat)).outcome.ok)
  for (const device of [victim, attacker]) {
    t.is(await suspicionsOf(device), 0)
    t.is((await standingOf(device)).trust_level, 'approved')
  }
  await Promise.all([client.close(), hostile.close(), bus.close()])
})
