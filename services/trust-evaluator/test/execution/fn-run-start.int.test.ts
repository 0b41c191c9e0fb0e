import { newUuidV7 } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { makeBattle, makeContender } from '@lenserfight/testkit'
import test from 'ava'
import { addRunner, addSetting, addSubmission, addVersion, heartbeat, runStart, type Setting } from '../_bodies.ts'
import { bytesOf, createWorld, hashOf, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const runs = async ({ lenser }: Pick<Setting, 'lenser'>): Promise<number> =>
  (
    await world.one<{ n: number }>('SELECT count(*)::int AS n FROM execution.runs WHERE requester_lenser_id = $1', [
      lenser,
    ])
  ).n
const setPolicy = (lenser: string, approval: string) =>
  world.owner.query('INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, $2)', [
    lenser,
    approval,
  ])

test('a run is the device owner’s; its permit pins what was named', async (t) => {
  const setting = await addSetting(world)
  const stored = Date.now() - 2000
  const body = runStart({ runner_id: setting.runner, version_id: setting.version })
  const { result } = await world.send(setting.device, body, { stored })
  const run = await world.one<Record<string, unknown>>('SELECT * FROM execution.runs WHERE id = $1', [result.run_id])
  const version = await world.one<{ workflow_id: string }>('SELECT workflow_id FROM lenses.versions WHERE id = $1', [
    setting.version,
  ])
  t.deepEqual(result, {
    run_id: result.run_id,
    verdict: 'allow',
    reason: 'approval_default_allow',
    version_id: setting.version,
    lens_hash: hashOf(4),
    workflow_id: version.workflow_id,
    workflow_hash: hashOf(5),
    runner_id: setting.runner,
    runner_bound: true,
    contender_id: null,
    level: 'agent_verified',
    issued_at: (run.issued_at as Date).getTime(),
    covered_until: stored + limits.permitSeconds * 1000,
    denied_tools: [],
    approval_expires_at: null,
  })
  t.like(run, {
    requester_lenser_id: setting.lenser,
    device_id: setting.device.id,
    op_id: body.op_id,
    runner_id: setting.runner,
    contender_id: null,
    contender_owned: true,
    version_id: setting.version,
    command_hash: bytesOf(1),
    inputs: body.inputs,
    started_at: new Date(stored),
  })
  t.truthy(run.binding_id)
})

test('a run that names nothing is a run, account_verified', async (t) => {
  const { device } = await addSetting(world)
  const { result } = await world.send(device, runStart())
  t.like(result, {
    verdict: 'allow',
    runner_bound: null,
    version_id: null,
    lens_hash: null,
    workflow_hash: null,
    level: 'account_verified',
  })
})

test('law 2: an operation sent again gives its result again; with other content, op_id_conflict', async (t) => {
  const setting = await addSetting(world)
  const body = runStart()
  const first = await world.send(setting.device, body)
  const again = await world.send(setting.device, body)
  t.deepEqual(again.result, first.result)
  t.not(again.digest, first.digest)
  t.is((await world.send(setting.device, { ...body, command_hash: hashOf(9) })).code, 'op_id_conflict')
  t.is(await runs(setting), 1)
})

test('law 2: twice in one batch is once', async (t) => {
  const setting = await addSetting(world)
  const body = runStart()
  const text = await world.seal(setting.device, body)
  const outcomes = await world.apply('run_start', [text, await world.seal(setting.device, body), text])
  t.is(new Set(outcomes.map(({ result }) => result.run_id)).size, 1)
  t.is(await runs(setting), 1)
})

test('law 2: the same operation in two transactions at once is once', async (t) => {
  const setting = await addSetting(world)
  const body = runStart()
  const outcomes = await Promise.all([1, 2, 3].map(() => world.send(setting.device, body)))
  t.is(new Set(outcomes.map(({ result }) => result.run_id)).size, 1)
  t.is(await runs(setting), 1)
})

test('what another account owns is refused as if it did not exist, and nothing is stored', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const contender = await makeContender(world.owner, { kind: 'ai_agent', lenser: other.lenser })
  const cases = {
    unknown_runner: [{ runner_id: other.runner }, { runner_id: newUuidV7() }],
    unknown_contender: [{ contender_id: contender }, { contender_id: newUuidV7() }],
    unknown_version: [{ version_id: other.version }, { version_id: newUuidV7() }],
    unknown_submission: [{ submission_id: await addSubmission(world, other.lenser) }, { submission_id: newUuidV7() }],
  }
  for (const [code, bodies] of Object.entries(cases)) {
    for (const body of bodies) t.is((await world.send(mine.device, runStart(body))).code, code)
  }
  t.is(await runs(mine), 0)
})

test('a run backs one submission, and a submission has one run', async (t) => {
  const setting = await addSetting(world)
  const submission_id = await addSubmission(world, setting.lenser)
  const first = await world.send(setting.device, runStart({ submission_id }))
  t.true(first.ok)
  t.is((await world.send(setting.device, runStart({ submission_id }))).code, 'submission_taken')
  const next = await addSubmission(world, setting.lenser)
  const texts = await Promise.all([1, 2].map(() => world.seal(setting.device, runStart({ submission_id: next }))))
  t.deepEqual((await world.apply('run_start', texts)).map(({ code }) => code).sort(), ['submission_taken', undefined])
  t.is(await runs(setting), 2)
})

test('two at once for one submission: one has it', async (t) => {
  const setting = await addSetting(world)
  const submission_id = await addSubmission(world, setting.lenser)
  const outcomes = await Promise.all([1, 2, 3].map(() => world.send(setting.device, runStart({ submission_id }))))
  t.is(outcomes.filter(({ ok }) => ok).length, 1)
  t.deepEqual(new Set(outcomes.flatMap(({ code }) => code ?? [])), new Set(['submission_taken']))
})

test('a run without a contender is its submission’s contender’s; another contender’s submission is refused', async (t) => {
  const setting = await addSetting(world)
  const battle = await makeBattle(world.owner)
  const [agent, human] = await Promise.all(
    (['ai_agent', 'human'] as const).map((kind) =>
      makeContender(world.owner, { kind, lenser: setting.lenser, battle }),
    ),
  )
  const submit = () => addSubmission(world, setting.lenser, agent)
  const adopted = await world.send(setting.device, runStart({ submission_id: await submit() }))
  t.is(adopted.result.level, 'agent_verified')
  const named = await world.send(setting.device, runStart({ contender_id: agent }))
  t.is(named.result.level, 'agent_verified')
  // A person stays at account_verified, whatever runner did the work.
  const person = await world.send(setting.device, runStart({ contender_id: human, runner_id: setting.runner }))
  t.is(person.result.level, 'account_verified')
  const wrong = await world.send(setting.device, runStart({ contender_id: human, submission_id: await submit() }))
  t.is(wrong.code, 'unknown_submission')
})

test('PE-1: the policy’s verdict is recorded with the run, both ways', async (t) => {
  for (const [approval, verdict] of [
    ['allow', 'allow'],
    ['require_human', 'require_approval'],
    ['deny', 'deny'],
  ] as const) {
    const setting = await addSetting(world)
    await setPolicy(setting.lenser, approval)
    const { result } = await world.send(setting.device, runStart())
    t.like(result, { verdict, reason: `approval_default_${approval}` })
    t.like(await world.one('SELECT * FROM agents.policy_evaluations WHERE run_id = $1', [result.run_id]), {
      lenser_id: setting.lenser,
      verdict,
      reason: `approval_default_${approval}`,
    })
  }
})

test('PE-3: a run that the policy did not allow takes no submission', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, 'deny')
  const submission_id = await addSubmission(world, setting.lenser)
  t.is((await world.send(setting.device, runStart({ submission_id }))).result.verdict, 'deny')
  await world.owner.query(`UPDATE agents.workspace_settings SET approval_default = 'allow' WHERE lenser_id = $1`, [
    setting.lenser,
  ])
  t.is((await world.send(setting.device, runStart({ submission_id }))).result.verdict, 'allow')
})

test('a device that was revoked, blocked or found unhealthy since its claim starts nothing; an offline one does', async (t) => {
  for (const level of ['revoked', 'blocked', 'unhealthy'] as const) {
    const setting = await addSetting(world)
    await world.setLevel(setting.device, level)
    t.is((await world.send(setting.device, runStart())).code, `device_${level}`)
    t.is(await runs(setting), 0)
  }
  const setting = await addSetting(world)
  await world.setLevel(setting.device, 'offline')
  t.true((await world.send(setting.device, runStart())).ok)
})

test('RH-1: only the runner’s active binding to this very device is pinned', async (t) => {
  const setting = await addSetting(world)
  const elsewhere = await addRunner(world, await world.addDevice(setting.lenser))
  const bindingOf = async (runner_id: string): Promise<unknown> => {
    const { result } = await world.send(setting.device, runStart({ runner_id }))
    const sql = 'SELECT binding_id FROM execution.runs WHERE id = $1'
    const { binding_id } = await world.one<{ binding_id: unknown }>(sql, [result.run_id])
    t.is(result.runner_bound, binding_id !== null, 'the permit tells it')
    return binding_id
  }
  t.truthy(await bindingOf(setting.runner))
  t.is(await bindingOf(elsewhere), null)
  await world.owner.query(
    `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = now() WHERE runner_id = $1`,
    [setting.runner],
  )
  t.is(await bindingOf(setting.runner), null)
  const again = world.insert('execution.runner_device_bindings', { runner_id: elsewhere, device_id: setting.device.id })
  t.is(((await t.throwsAsync(again)) as Error & { code?: string }).code, '23505')
})

test('a runner is never bound to another account’s device, and a binding only ends', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const code = async (work: Promise<unknown>) => ((await t.throwsAsync(work)) as Error & { code?: string }).code
  const runner = await world.insert('execution.runners', { lenser_id: mine.lenser, name: 'second' })
  t.is(
    await code(world.insert('execution.runner_device_bindings', { runner_id: runner, device_id: other.device.id })),
    '23503',
  )
  const change = (set: string) =>
    code(world.owner.query(`UPDATE execution.runner_device_bindings SET ${set} WHERE runner_id = '${mine.runner}'`))
  t.is(await change(`bound_at = now() - interval '1 day'`), 'LT003')
  t.is(await change(`status = 'ended', ended_at = now(), bound_at = now() - interval '1 day'`), 'LT003')
  t.is(
    await code(world.owner.query('DELETE FROM execution.runner_device_bindings WHERE runner_id = $1', [mine.runner])),
    'LT003',
  )
})

test('DH-1: a request without a verified claim starts nothing', async (t) => {
  const setting = await addSetting(world)
  t.is((await world.send(setting.device, runStart(), { verdict: 'none' })).code, 'claim_expired')
  t.is((await world.send(setting.device, runStart(), { verdict: 'device_revoked' })).code, 'claim_expired')
  t.is(await runs(setting), 0)
})

test('AU-2: a run and its audit record are one transaction; a refusal is on record too', async (t) => {
  const setting = await addSetting(world)
  const good = await world.send(setting.device, runStart())
  const bad = await world.send(setting.device, runStart({ runner_id: newUuidV7() }))
  const { rows } = await world.owner.query(
    'SELECT event_kind, op_id, payload FROM audit.pending WHERE kid = $1 ORDER BY id',
    [setting.device.id],
  )
  t.deepEqual(rows, [
    { event_kind: 'run_start', op_id: good.op_id, payload: { ok: true, result: good.result } },
    { event_kind: 'run_start', op_id: bad.op_id, payload: { ok: false, code: 'unknown_runner' } },
  ])
})

// Serial: TRUNCATE asks for locks that its neighbours hold.
test.serial('runs, verdicts and links are append-only, for the superuser too', async (t) => {
  const setting = await addSetting(world)
  await world.send(setting.device, heartbeat())
  await world.send(
    setting.device,
    runStart({
      submission_id: await addSubmission(world, setting.lenser),
      version_id: await addVersion(world, setting.lenser),
    }),
  )
  for (const table of [
    'execution.runs',
    'agents.policy_evaluations',
    'execution.links',
    'execution.trust_evaluations',
  ]) {
    for (const statement of [`DELETE FROM ${table}`, `TRUNCATE ${table} CASCADE`]) {
      t.is(((await t.throwsAsync(world.owner.query(statement))) as Error & { code?: string }).code, 'LT003', statement)
    }
  }
})

test('a run that names another account’s submission waits for nobody who holds it', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const submission_id = await addSubmission(world, other.lenser)
  const holder = await world.owner.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM battles.submissions WHERE id = $1 FOR UPDATE', [submission_id])
  const outcome = await Promise.race([
    world.send(mine.device, runStart({ submission_id })),
    new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 10_000)),
  ])
  await holder.query('ROLLBACK')
  holder.release()
  t.is(outcome?.code, 'unknown_submission')
})
