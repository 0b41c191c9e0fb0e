import { newUuidV7 } from '@lenserfight/envelope'
import { executionFacts } from '@lenserfight/schemas'
import test from 'ava'
import { addSetting, attestation, runAndAttest, type Setting, startRun } from '../_bodies.ts'
import { bytesOf, createWorld, hashOf, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const stored = async (runId: unknown): Promise<Record<string, unknown> | undefined> =>
  world.one('SELECT * FROM execution.attestations WHERE run_id = $1', [runId])
const codeOf = async (work: Promise<unknown>): Promise<string | undefined> => {
  try {
    await work
    return undefined
  } catch (error) {
    return (error as { code?: string }).code
  }
}
const allTrue = Object.fromEntries(Object.values(executionFacts).flatMap((facts) => facts.map((fact) => [fact, true])))

test('EA-5: an honest run under a permit, attested, is fully_trusted, and the result says why', async (t) => {
  const setting = await addSetting(world)
  const { ok, result } = await runAndAttest(world, setting)
  t.true(ok)
  t.like(result, { level: 'fully_trusted', reason: null, facts: allTrue })
  t.deepEqual(
    result.ladder.map(({ reached, failing }: { reached: boolean; failing: string[] }) => [reached, failing]),
    Array.from({ length: 6 }, () => [true, []]),
  )
  const { rows } = await world.owner.query(
    'SELECT trust_level, reason FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id',
    [result.run_id],
  )
  t.deepEqual(rows, [
    { trust_level: 'agent_verified', reason: 'attested' },
    { trust_level: 'fully_trusted', reason: null },
  ])
})

test('law 4: every column is what the signed body says, beside the very bytes that were received', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const body = attestation(permit, { stdin_hash: hashOf(7), exit_code: null, signal: 'SIGTERM' })
  const at = Date.now() - 100
  const text = await world.seal(setting.device, body, { stored: at })
  const [outcome] = await world.apply('attestation', [text])
  t.like(await stored(permit.run_id), {
    id: outcome?.result.attestation_id,
    lenser_id: setting.lenser,
    device_id: setting.device.id,
    op_id: body.op_id,
    wire: Buffer.from(text),
    command_hash: bytesOf(1),
    stdin_hash: bytesOf(7),
    stdout_hash: bytesOf(3),
    inputs: body.inputs,
    outputs: [],
    lens_hash: bytesOf(4),
    workflow_hash: bytesOf(5),
    started_at: new Date(body.started_at),
    ended_at: new Date(body.ended_at),
    exit_code: null,
    signal: 'SIGTERM',
    stored_at: new Date(at),
  })
})

test('EA-1: an attestation of no run, of another account’s run, or of another device’s run is rejected', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const permit = await startRun(world, mine)
  const sibling = await world.addDevice(mine.lenser)
  t.is((await world.send(mine.device, attestation({ run_id: newUuidV7() }))).code, 'unknown_run')
  t.is((await world.send(other.device, attestation(permit))).code, 'run_not_owned')
  t.is((await world.send(sibling, attestation(permit))).code, 'run_not_owned')
  t.is(await stored(permit.run_id), undefined)
})

test('EA-1: the database itself refuses a row that ties a run to another device or account', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const { result } = await runAndAttest(world, mine)
  const permit = await startRun(world, mine)
  const copy = (device: string, lenser: string) =>
    world.owner.query(
      `INSERT INTO execution.attestations
       SELECT (jsonb_populate_record(a, jsonb_build_object(
                'id', uuidv7(), 'run_id', $2::uuid, 'device_id', $3::uuid, 'lenser_id', $4::uuid))).*
         FROM execution.attestations a WHERE a.run_id = $1`,
      [result.run_id, permit.run_id, device, lenser],
    )
  t.is(await codeOf(copy(other.device.id, other.lenser)), '23503')
  t.is(await codeOf(copy(other.device.id, mine.lenser)), '23503')
  t.is(await codeOf(copy(mine.device.id, mine.lenser)), undefined)
})

test('EA-2: an envelope without a verified claim for its very bytes stores nothing', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const texts = [
    await world.seal(setting.device, attestation(permit), { verdict: 'none' }),
    await world.seal(setting.device, attestation(permit), { verdict: 'signature_mismatch' }),
    await world.seal(setting.device, attestation(permit), { door: 'ask' }),
    (await world.seal(setting.device, attestation(permit))).replace('"exit_code":0', '"exit_code":1'),
  ]
  const outcomes = await world.apply('attestation', texts)
  t.deepEqual(new Set(outcomes.map(({ code }) => code)), new Set(['claim_expired']))
  t.is(await stored(permit.run_id), undefined)
})

const flags = ['signed', 'gateway_verified', 'device_trusted', 'policy_passed'] as const
const claimed = (value: boolean) => Object.fromEntries(flags.map((flag) => [flag, value]))
const sent = [claimed(true), claimed(false), ...flags.flatMap((flag) => [{ [flag]: true }, { [flag]: false }])]

test('EA-3: no flag that a client sends changes what is stored or the level, whatever is true', async (t) => {
  const worse = async (setting: Setting): Promise<Record<string, unknown>> => {
    const permit = await startRun(world, setting)
    await world.setLevel(setting.device, 'unhealthy')
    return permit
  }
  for (const prepare of [(setting: Setting) => startRun(world, setting), worse]) {
    const levels = new Set<unknown>()
    for (const more of [{}, ...sent]) {
      const setting = await addSetting(world)
      const permit = await prepare(setting)
      const { result } = await world.send(setting.device, attestation(permit, more))
      const { signed, gateway_verified, device_trusted, policy_passed } = (await stored(permit.run_id)) ?? {}
      levels.add(JSON.stringify([result.level, signed, gateway_verified, device_trusted, policy_passed]))
    }
    t.is(levels.size, 1, [...levels].join())
  }
})

test('AC-1: gateway_verified is the server’s, a client’s true or false is ignored', async (t) => {
  const setting = await addSetting(world)
  const { result } = await runAndAttest(world, setting, { gateway_verified: false, signed: false })
  t.like(await stored(result.run_id), { gateway_verified: true, signed: true })
  const permit = await startRun(world, setting)
  const forged = await world.seal(setting.device, attestation(permit, { gateway_verified: true }), { verdict: 'none' })
  t.is((await world.apply('attestation', [forged]))[0]?.code, 'claim_expired')
  t.is(await stored(permit.run_id), undefined)
})

test('AC-2: device_trusted is the server’s: a device revoked, blocked or unhealthy since its claim is not trusted', async (t) => {
  for (const level of ['revoked', 'blocked', 'unhealthy'] as const) {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    await world.setLevel(setting.device, level)
    const { ok, result } = await world.send(setting.device, attestation(permit, { device_trusted: true }))
    t.true(ok)
    t.like(result, { level: 'agent_verified', reason: 'device_trusted' })
    t.like(await stored(permit.run_id), { device_trusted: false, signed: true })
  }
})

test('AC-2: an offline device counts by the level that it keeps', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  await world.setLevel(setting.device, 'offline')
  t.is((await world.send(setting.device, attestation(permit))).result.level, 'fully_trusted')
})

test('law 2: one attestation a run: the same content has the first one’s result, other content is already_attested', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const body = attestation(permit)
  const first = await world.send(setting.device, body)
  const again = await world.send(setting.device, body)
  const renamed = await world.send(setting.device, { ...body, op_id: newUuidV7(), signed: true })
  t.deepEqual([again.result, renamed.result], [first.result, first.result])
  t.is((await world.send(setting.device, { ...body, op_id: newUuidV7(), exit_code: 1 })).code, 'already_attested')
  t.is((await world.send(setting.device, { ...body, exit_code: 1 })).code, 'op_id_conflict')
})

test('law 2: two contents at once, in one batch and in two: one counts', async (t) => {
  const setting = await addSetting(world)
  for (const split of [false, true]) {
    const permit = await startRun(world, setting)
    const texts = await Promise.all(
      [0, 1].map((exit_code) => world.seal(setting.device, attestation(permit, { exit_code }))),
    )
    const outcomes = split
      ? (await Promise.all(texts.map((text) => world.apply('attestation', [text])))).flat()
      : await world.apply('attestation', texts)
    t.deepEqual(outcomes.map(({ code }) => code).sort(), ['already_attested', undefined])
  }
})

test('law 2: an attestation that waits for another of its run in flight finds it', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const [first, second] = await Promise.all(
    [0, 1].map((exit_code) => world.seal(setting.device, attestation(permit, { exit_code }))),
  )
  const connection = await world.evaluator.connect()
  try {
    await connection.query('BEGIN')
    await connection.query('SELECT FROM execution.fn_record_execution_attestation($1)', [[first]])
    const waiting = world.apply('attestation', [second as string])
    await new Promise((resolve) => setTimeout(resolve, 50))
    await connection.query('COMMIT')
    t.is((await waiting)[0]?.code, 'already_attested')
  } finally {
    connection.release()
  }
})

// Serial: TRUNCATE asks for locks that its neighbours hold.
test.serial('EA-4: attestations and evaluations are append-only, for the superuser too', async (t) => {
  await runAndAttest(world, await addSetting(world))
  for (const table of ['execution.attestations', 'execution.trust_evaluations']) {
    for (const statement of [
      `UPDATE ${table} SET run_id = run_id`,
      `DELETE FROM ${table}`,
      `TRUNCATE ${table} CASCADE`,
    ]) {
      t.is(await codeOf(world.owner.query(statement)), 'LT003', statement)
    }
  }
})

test('AU-2: an attestation and its audit record are one transaction', async (t) => {
  const setting = await addSetting(world)
  const outcome = await runAndAttest(world, setting)
  const { rows } = await world.owner.query(
    `SELECT device_id, op_id, digest, payload FROM audit.pending WHERE kid = $1 AND event_kind = 'attestation'`,
    [setting.device.id],
  )
  t.deepEqual(rows, [
    {
      device_id: setting.device.id,
      op_id: outcome.op_id,
      digest: Buffer.from(outcome.digest, 'base64url'),
      payload: { ok: true, result: outcome.result },
    },
  ])
})

test('the evaluator’s role calls its functions and touches no table; no other role calls them', async (t) => {
  const tables = await world.owner.query<{ name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('devices', 'execution', 'agents', 'lenses', 'battles', 'audit', 'lensers')`,
  )
  for (const { name } of tables.rows) {
    for (const statement of [`SELECT FROM ${name}`, `DELETE FROM ${name}`]) {
      t.is(await codeOf(world.evaluator.query(statement)), '42501', statement)
    }
  }
  for (const role of ['ltg_verifier', 'ltg_registrar', 'ltg_broker_auth', 'ltg_audit_chain']) {
    const pool = world.connect(world.database.as(role))
    for (const kind of ['heartbeat', 'run_start', 'attestation'] as const) {
      t.is(await codeOf(world.apply(kind, [], pool)), '42501', `${role} ${kind}`)
    }
    await pool.end()
  }
})

test('rule 15: an attestation that is refused, or comes again, leaves its run to be judged', async (t) => {
  const setting = await addSetting(world)
  const sibling = await world.addDevice(setting.lenser)
  const permit = await startRun(world, setting)
  const body = attestation(permit)
  await world.send(setting.device, body)
  await world.owner.query('SELECT execution.fn_queue_runs($1)', [[permit.run_id]])
  t.is((await world.send(sibling, attestation(permit))).code, 'run_not_owned')
  t.is((await world.send(setting.device, { ...body, op_id: newUuidV7(), exit_code: 9 })).code, 'already_attested')
  t.true((await world.send(setting.device, { ...body, op_id: newUuidV7() })).ok)
  const { rows } = await world.owner.query('SELECT FROM execution.reevaluations WHERE run_id = $1', [permit.run_id])
  t.is(rows.length, 1, 'what queued it is not lost')
})

test('an attestation that names a run of another device waits for nobody who holds it', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const sibling = await world.addDevice(setting.lenser)
  const holder = await world.owner.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM execution.runs WHERE id = $1 FOR UPDATE', [permit.run_id])
  const outcome = await Promise.race([
    world.send(sibling, attestation(permit)),
    new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 10_000)),
  ])
  await holder.query('ROLLBACK')
  holder.release()
  t.is(outcome?.code, 'run_not_owned')
})
