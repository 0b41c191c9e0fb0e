import { newUuidV7 } from '@lenserfight/envelope'
import {
  type DeviceExplanation,
  deviceFacts,
  type ExecutionExplanation,
  Explanation,
  executionFacts,
  outcomeOf,
  remedyOf,
} from '@lenserfight/schemas'
import { Check, Errors } from '@lenserfight/schemas/typebox'
import { makeSession } from '@lenserfight/testkit'
import test from 'ava'
import {
  addSetting,
  addSubmission,
  attestation,
  beatOf,
  runRenew,
  runStart,
  startRun,
  toolInvocation,
} from '../_bodies.ts'
import { createWorld, type Device, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

/** Asks as a session of the account does. */
const ask = async (lenser: string, id: unknown): Promise<Outcome> => {
  const { kid, keys } = await makeSession(world.owner, lenser)
  const session: Device = { id: kid, lenser, keys }
  const text = await world.seal(session, { kind: 'explain', id }, { door: 'ask' })
  return (await world.one<{ outcome: Outcome }>('SELECT execution.fn_explain($1) AS outcome', [text])).outcome
}
const explain = async (lenser: string, id: unknown) => {
  const { ok, code, result } = await ask(lenser, id)
  if (!ok) throw new TypeError(code)
  if (!Check(Explanation, result)) throw new TypeError(JSON.stringify(Errors(Explanation, result)))
  return result as Explanation
}
const failing = ({ rules }: Explanation) => rules.filter(({ holds }) => !holds).map(({ fact }) => fact)
const inputsOf = ({ rules }: Explanation, fact: string) => rules.find((rule) => rule.fact === fact)?.inputs ?? {}

test('a fully trusted run: every rule of the ladder in its order, each with what it was judged by', async (t) => {
  const setting = await addSetting(world)
  const submission = await addSubmission(world, setting.lenser)
  const permit = await startRun(world, setting, { submission_id: submission })
  const { result } = await world.send(setting.device, attestation(permit))
  const run = (await explain(setting.lenser, permit.run_id)) as ExecutionExplanation
  t.like(run, { kind: 'run', id: permit.run_id, level: 'fully_trusted', first_failed: null })
  t.deepEqual(
    run.rules.map(({ level, fact }) => [level, fact]),
    Object.entries(executionFacts).flatMap(([level, facts]) => facts.map((fact) => [level, fact])) as never,
  )
  t.deepEqual(failing(run), [])
  t.deepEqual(
    run.history.map(({ level, reason }) => [level, reason]),
    [
      ['fully_trusted', null],
      ['agent_verified', 'attested'],
    ],
  )
  t.like(inputsOf(run, 'attested'), { attestation_id: result.attestation_id })
  t.like(inputsOf(run, 'lens_hash'), { lens_hash: String(permit.lens_hash).slice(0, 8) })
  t.like(inputsOf(run, 'policy_passed'), { verdict: 'allow', as_permitted: true, tools_attested: 0, tools_logged: 0 })
  t.like(inputsOf(run, 'binding_active'), { ended_at: null })
  t.is(remedyOf(run), null)
  // Every rule has inputs, and no whole hash or key is among them.
  for (const { fact, inputs } of run.rules) t.true(Object.keys(inputs).length > 0, fact)
  t.notRegex(JSON.stringify(run), /[A-Za-z0-9_-]{43}/)
  const submitted = await explain(setting.lenser, submission)
  t.like(submitted, { kind: 'submission', id: submission, level: 'fully_trusted', rules: run.rules })
  t.like(submitted.subject, { run_id: permit.run_id })
})

test('the first rule that failed is named, with the one command that would fix it', async (t) => {
  const setting = await addSetting(world)
  await world.send(setting.device, beatOf(setting))
  const { result: nameless } = await world.send(setting.device, runStart())
  const person = await explain(setting.lenser, nameless.run_id)
  t.like(person, { level: 'account_verified', first_failed: 'contender_is_agent' })
  t.regex(remedyOf(person)?.command ?? '', /^lf run --runner/)
  const permit = await startRun(world, setting)
  t.like(await explain(setting.lenser, permit.run_id), { level: 'agent_verified', first_failed: 'attested' })
  await world.owner.query(
    `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = now() WHERE runner_id = $1`,
    [setting.runner],
  )
  await world.send(setting.device, attestation(permit))
  const unbound = await explain(setting.lenser, permit.run_id)
  t.like(unbound, { level: 'device_verified', first_failed: 'binding_active' })
  t.is(typeof inputsOf(unbound, 'binding_active').ended_at, 'number')
  t.regex(remedyOf(unbound)?.command ?? '', /^lf gateway runners bind/)
})

test('the level and its rules are those of the last evaluation, as it is stored', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  const { result } = await world.send(setting.device, attestation(permit, { inputs: [] }))
  const run = await explain(setting.lenser, permit.run_id)
  t.is(run.level, result.level)
  t.is(run.first_failed, result.reason)
  t.deepEqual(Object.fromEntries(run.rules.map(({ fact, holds }) => [fact, holds])), result.facts)
  t.like(inputsOf(run, 'policy_passed'), { as_permitted: false })
})

test('a run that awaits a person may be answered until its time is over, and then begins anew', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'require_human')
     ON CONFLICT (lenser_id) DO UPDATE SET approval_default = 'require_human'`,
    [setting.lenser],
  )
  const { run_id } = await startRun(world, setting)
  const waiting = await explain(setting.lenser, run_id)
  t.like(inputsOf(waiting, 'policy_passed'), { verdict: 'require_approval', decision: null, answer_expired: false })
  t.regex(outcomeOf(waiting) ?? '', /^not decided yet: .*Nothing ran yet\.$/)
  t.is(remedyOf(waiting)?.command, `lf gateway approvals approve ${run_id}`)
  await world.owner.query('UPDATE agents.approvals SET expires_at = now() WHERE run_id = $1', [run_id])
  const late = await explain(setting.lenser, run_id)
  t.is(typeof inputsOf(late, 'policy_passed').answer_until, 'number')
  t.regex(outcomeOf(late) ?? '', /^expired: .*Nothing ran\.$/)
  t.is(remedyOf(late)?.command, 'lf run -- COMMAND')
})

test('a person’s no is told with its reason, and not as if the run were withdrawn once its device hears of it', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'require_human')`,
    [setting.lenser],
  )
  const { run_id } = await startRun(world, setting)
  await world.owner.query(
    `WITH decided AS (
       UPDATE agents.approvals SET decision = 'deny', decided_at = now(), decided_by = $2, reason = 'not tonight'
        WHERE run_id = $1 RETURNING run_id, lenser_id)
     INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at)
     SELECT run_id, lenser_id, 'approval', 'deny', 'approval_denied', now() FROM decided`,
    [run_id, setting.device.id],
  )
  t.is((await world.send(setting.device, runRenew([run_id]))).result.runs[0].reason, 'approval_denied')
  const denied = await explain(setting.lenser, run_id)
  const judged = { decision: 'deny', decision_reason: 'not tonight', withdrawn_reason: null, withdrawn_at: null }
  t.like(inputsOf(denied, 'policy_passed'), judged)
  t.regex(outcomeOf(denied) ?? '', /^denied: .*: not tonight\. Nothing ran\.$/)
})

test('a run that the policy ended on its way says so once it is attested, and which tools it was denied', async (t) => {
  const setting = await addSetting(world)
  const set = (name: string, value: unknown) =>
    world.owner.query(
      `INSERT INTO agents.workspace_settings (lenser_id, ${name}) VALUES ($1, $2)
       ON CONFLICT (lenser_id) DO UPDATE SET ${name} = $2`,
      [setting.lenser, value],
    )
  const permit = await startRun(world, setting)
  await set('denied_tools', ['db/*'])
  for (const [index, tool] of ['db/write', 'mcp/read', 'db/read', 'db/read'].entries())
    await world.send(setting.device, toolInvocation(permit.run_id as string, index + 1, { tool }))
  await set('runner_paused', true)
  await world.send(setting.device, runRenew([permit.run_id as string]))
  await set('runner_paused', false)
  const said = attestation(permit, { ended_at: Date.now() + 1000, tool_invocations: 4 })
  t.true((await world.send(setting.device, said)).ok)
  const ended = await explain(setting.lenser, permit.run_id)
  t.like(inputsOf(ended, 'policy_passed'), { tools_denied: 3, withdrawn_reason: 'runner_paused' })
  t.deepEqual(inputsOf(ended, 'policy_passed').denied_tools, ['db/read', 'db/write'])
  t.regex(outcomeOf(ended) ?? '', /^allowed at first, then withdrawn: .*\(runner_paused\)\. What ran is attested\.$/)
})

test('a submission that nothing was run for is unverified, and says what to run', async (t) => {
  const setting = await addSetting(world)
  const submission = await addSubmission(world, setting.lenser)
  const explained = await explain(setting.lenser, submission)
  t.like(explained, { kind: 'submission', level: 'unverified', evaluated_at: null, history: [] })
  t.is(remedyOf(explained)?.command, `lf run --submission ${submission} -- COMMAND`)
})

test('a device: its ladder’s rules with what each is judged by, and its transitions', async (t) => {
  const { lenser, device } = await addSetting(world)
  const explained = (await explain(lenser, device.id)) as DeviceExplanation
  t.like(explained, { kind: 'device', id: device.id, level: 'approved' })
  t.deepEqual(
    explained.rules.map(({ fact }) => fact),
    [...deviceFacts],
  )
  t.deepEqual(
    explained.history.map(({ level }) => level),
    ['approved', 'pending'],
  )
  t.like(inputsOf(explained, 'heartbeat_days'), { days: 0, needed: 7, window_days: 30 })
  await world.setLevel(device, 'unhealthy')
  const ill = await explain(lenser, device.id)
  t.is(ill.level, 'unhealthy')
  t.true(failing(ill).includes('not_unhealthy'))
  await world.setLevel(device, 'revoked')
  const gone = await explain(lenser, device.id)
  t.true(failing(gone).includes('not_revoked'))
  t.is(gone.history[0]?.level, 'revoked')
})

test('a device that earned trusted is short of nothing', async (t) => {
  const setting = await addSetting(world)
  const { lenser, device } = setting
  await world.owner.query(
    `INSERT INTO devices.heartbeat_days
     SELECT $1, (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, 6) n`,
    [device.id],
  )
  await world.send(device, attestation(await startRun(world, setting)))
  await world.owner.query('UPDATE devices.registered_devices SET challenge_verified_at = now() WHERE id = $1', [
    device.id,
  ])
  t.deepEqual(failing(await explain(lenser, device.id)), [])
  await world.owner.query(`UPDATE devices.registered_devices SET trust_level = 'trusted' WHERE id = $1`, [device.id])
  await world.owner.query('DELETE FROM devices.heartbeat_days WHERE device_id = $1', [device.id])
  const trusted = await explain(lenser, device.id)
  t.deepEqual([trusted.level, trusted.first_failed], ['trusted', null], 'earned once, it is kept')
  t.deepEqual(failing(trusted), ['heartbeat_days'])
})

test('another account’s run, submission or device is nothing to explain, as what there is none of', async (t) => {
  const [mine, theirs] = [await addSetting(world), await addSetting(world)]
  const submission = await addSubmission(world, theirs.lenser)
  const permit = await startRun(world, theirs)
  for (const id of [permit.run_id, submission, theirs.device.id, newUuidV7()]) {
    t.is((await ask(mine.lenser, id)).code, 'nothing_to_explain')
  }
  // Their run, linked to my submission by hand, is not told of either.
  const own = await addSubmission(world, mine.lenser)
  await world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [permit.run_id, own])
  const explained = await explain(mine.lenser, own)
  t.like(explained, { level: 'unverified' })
  t.false(JSON.stringify(explained).includes(String(permit.run_id)))
  t.false(JSON.stringify(explained).includes(theirs.device.id))
})
