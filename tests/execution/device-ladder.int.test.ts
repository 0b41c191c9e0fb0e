import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { inSubject } from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeRunner, makeSession, makeVersion, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { codeOf, Edge, operation, type Reply, resultOf, type Signer } from '../enrolment/_edge.ts'

let stack: Stack
let edge: Edge
test.before(async () => {
  // The broker's wall is down: a device that may no longer say anything says it all the same.
  stack = await testStack({
    callout: false,
    replicas: { 'broker-auth': 0, 'trust-evaluator': 2 },
    extra: { 'trust-evaluator': { tend_ms: 200 } },
  })
  edge = await Edge.connect(stack)
})
test.after.always(async () => {
  await edge?.close()
  await stack?.stop()
})

const inDatabase = <T>(use: (db: PgClient) => Promise<T>): Promise<T> => withClient(stack.owner, use)
const rows = <T>(text: string, values: unknown[]): Promise<T[]> =>
  inDatabase(async (db) => (await db.query(text, values)).rows as T[])
const until = async <T>(look: () => Promise<T | undefined>): Promise<T> => {
  for (const end = Date.now() + 30_000; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error('waited 30 s')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const signerOf = ({ kid, lenser, keys }: Signatory): Signer => ({
  ...{ kid, lenser },
  key: keys.privateKey,
  publicKey: keys.publicKey,
})
/** An approved device with a runner and a pinned version, and its owner's session. */
const addMachine = () =>
  inDatabase(async (db) => {
    const { lenser } = await makeAccount(db)
    const device = await makeDevice(db, { lenser })
    const [runner, version] = [await makeRunner(db, device), await makeVersion(db, lenser)]
    return { device: signerOf(device), owner: signerOf(await makeSession(db, lenser)), runner, version: version.id }
  })
type Machine = Awaited<ReturnType<typeof addMachine>>

const say = (signer: Signer, kind: string, members: object = {}): Promise<Reply | undefined> =>
  edge.send(inSubject({ ...signer, kind }), edge.sign(signer, kind, members))
const beat = ({ device, runner }: Machine) =>
  say(device, 'heartbeat', {
    ...{ daemon_version: '0.1.0', gateway_status: 'connected' },
    runners: [{ runner_id: runner, open_runs: 1 }],
  })
const hash = encodeKey(new Uint8Array(32).fill(7))
const startRun = async ({ device, runner, version }: Machine) =>
  resultOf(
    await say(
      device,
      'run_start',
      operation({ command_hash: hash, inputs: [], runner_id: runner, version_id: version }),
    ),
  )
const attestationOf = (permit: Record<string, unknown>) =>
  operation({
    ...{ run_id: permit.run_id, lens_hash: permit.lens_hash, workflow_hash: permit.workflow_hash },
    ...{ command_hash: hash, stdin_hash: null, stdout_hash: hash, inputs: [], outputs: [] },
    ...{ started_at: Date.now() - 10, ended_at: Date.now(), exit_code: 0, signal: null },
  })
const levelOf = async (run: unknown): Promise<string | undefined> =>
  (
    await rows<{ trust_level: string }>(
      'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
      [run],
    )
  )[0]?.trust_level
const attestationsOf = (run: unknown) => rows('SELECT FROM execution.attestations WHERE run_id = $1', [run])

test('AU-2: a daemon’s start, refusal and stop go through every worker into its owner’s chain', async (t) => {
  const { device } = await addMachine()
  const events = [{ event: 'start' }, { event: 'refusal', code: 'clock_skew' }, { event: 'stop' }]
  for (const event of events) {
    const body = operation({ ...event, daemon_version: '0.1.0', at: Date.now() })
    t.deepEqual(resultOf(await say(device, 'lifecycle', body)), { trust_level: 'approved' })
  }
  const entries = await until(async () => {
    const linked = await rows<{ payload: { lifecycle: object } }>(
      `SELECT payload FROM audit.hash_chains WHERE device_id = $1 AND event_kind = 'lifecycle' ORDER BY seq`,
      [device.kid],
    )
    return linked.length === events.length ? linked : undefined
  })
  for (const [n, { payload }] of entries.entries()) t.like(payload.lifecycle, { ...events[n], daemon_version: '0.1.0' })
})

test('AU-2: a canary names when each hop had it, and is in the chain', async (t) => {
  const { device } = await addMachine()
  const times = resultOf(await say(device, 'canary', { sent_at: Date.now() })) as Record<string, number>
  // One machine, so one clock: the broker's, then the database's twice.
  t.true((times.stored_at_ms as number) <= (times.claimed_at_ms as number) + 1)
  t.true((times.claimed_at_ms as number) <= (times.applied_at_ms as number))
  await until(async () => {
    const text = `SELECT FROM audit.hash_chains WHERE device_id = $1 AND event_kind = 'canary'`
    return (await rows(text, [device.kid])).length === 1 ? true : undefined
  })
  t.pass()
})

test('revoked while a run is under way: its attestation is refused, nothing is stored, and what was stored since falls', async (t) => {
  const machine = await addMachine()
  const { device, owner } = machine
  resultOf(await beat(machine))
  const done = await startRun(machine)
  t.is(resultOf(await say(device, 'attestation', attestationOf(done))).level, 'fully_trusted')
  const underWay = await startRun(machine)
  const since = Math.floor(Date.now() / 1000) - 60
  const revocation = { device_id: device.kid, reason: 'stolen', compromised_since: since }
  t.like(resultOf(await edge.ask(owner, 'revoke', operation(revocation))), {
    trust_level: 'revoked',
    compromised_since: since,
  })
  t.is(codeOf(await say(device, 'attestation', attestationOf(underWay))), 'device_revoked')
  t.deepEqual(await attestationsOf(underWay.run_id), [])
  await until(async () => ((await levelOf(done.run_id)) === 'agent_verified' ? true : undefined))
  t.is((await attestationsOf(done.run_id)).length, 1, 'the attestation stays')
})

test('suspended while a run is under way: its attestation waits, and counts once its owner reinstated the device', async (t) => {
  const machine = await addMachine()
  const { device, owner } = machine
  resultOf(await beat(machine))
  const permit = await startRun(machine)
  const of = operation({ device_id: device.kid })
  t.is(resultOf(await edge.ask(owner, 'suspend', of)).trust_level, 'unhealthy')
  const body = attestationOf(permit)
  t.is(codeOf(await say(device, 'attestation', body)), 'device_unhealthy')
  t.deepEqual(await attestationsOf(permit.run_id), [])
  t.is(resultOf(await beat(machine)).trust_level, 'unhealthy', 'heard, and not healed by it')
  t.is(resultOf(await edge.ask(owner, 'reinstate', { ...of, op_id: newUuidV7() })).trust_level, 'approved')
  t.is(resultOf(await say(device, 'attestation', body)).level, 'fully_trusted')
})

test('DH-3: the evaluators themselves bring a device that fell silent to offline, and one that earned it to trusted', async (t) => {
  const [silent, worthy] = [await addMachine(), await addMachine()]
  resultOf(await beat(worthy))
  resultOf(await say(worthy.device, 'attestation', attestationOf(await startRun(worthy))))
  await inDatabase(async (db) => {
    await db.query(
      `INSERT INTO devices.heartbeat_days
       SELECT $1, (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, 6) n ON CONFLICT DO NOTHING`,
      [worthy.device.kid],
    )
    await db.query(
      `UPDATE devices.registered_devices SET last_heartbeat_at = now() - interval '25 hours' WHERE id = $1`,
      [silent.device.kid],
    )
  })
  const is = ({ device }: Machine, level: string) =>
    until(async () => {
      const text = 'SELECT FROM devices.registered_devices WHERE id = $1 AND trust_level = $2'
      return (await rows(text, [device.kid, level])).length === 1 ? true : undefined
    })
  t.true(await is(silent, 'offline'))
  t.true(await is(worthy, 'trusted'))
  t.is(resultOf(await beat(silent)).trust_level, 'approved', 'a heartbeat brings it back')
})
