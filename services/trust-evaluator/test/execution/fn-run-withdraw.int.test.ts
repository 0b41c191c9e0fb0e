import { newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { addSetting, attestation, ranAt, runRenew, runStart, runWithdraw, type Setting } from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const setPolicy = async ({ lenser }: Setting, approval: string): Promise<void> => {
  await world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, $2)
     ON CONFLICT (lenser_id) DO UPDATE SET approval_default = excluded.approval_default`,
    [lenser, approval],
  )
}
const start = async ({ device }: Setting, stored?: number): Promise<string> =>
  (await world.send(device, runStart(), stored === undefined ? {} : { stored })).result.run_id
const awaiting = async (setting: Setting): Promise<string> => {
  await setPolicy(setting, 'require_human')
  return start(setting)
}
const withdraw = ({ device }: Setting, run: unknown) => world.send(device, runWithdraw(run))
const rowsOf = async (text: string, ...values: unknown[]) => (await world.owner.query(text, values)).rows
const withdrawalsOf = (run: string) =>
  rowsOf(
    `SELECT verdict, reason, covered_until FROM agents.policy_evaluations WHERE run_id = $1 AND phase = 'withdrawal'`,
    run,
  )
const withdrawn = { verdict: 'deny', reason: 'withdrawn' }

test('a run that awaits a person is taken back: it frees both its places at once, and awaits nobody', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query('INSERT INTO agents.quotas (lenser_id, daily_runs, max_parallel_runs) VALUES ($1, 1, 1)', [
    setting.lenser,
  ])
  const run = await awaiting(setting)
  t.like((await world.send(setting.device, runStart())).result, { verdict: 'deny', reason: 'budget_used_up' })
  const { result } = await withdraw(setting, run)
  t.deepEqual(result, { run_id: run, ...withdrawn, decision: 'withdraw' })
  t.deepEqual(await withdrawalsOf(run), [{ ...withdrawn, covered_until: null }])
  t.deepEqual(await rowsOf('SELECT FROM execution.open_runs WHERE run_id = $1', run), [])
  t.like((await rowsOf('SELECT decision, decided_by FROM agents.approvals WHERE run_id = $1', run))[0], {
    decision: 'withdraw',
    decided_by: setting.device.id,
  })
  t.like((await world.send(setting.device, runStart())).result, { verdict: 'require_approval' })
  t.like((await world.send(setting.device, runRenew([run]))).result.runs[0], { ...withdrawn, covered_until: null })
})

test('taking it back again, as the same operation or another, changes nothing and says the same', async (t) => {
  const setting = await addSetting(world)
  const run = await awaiting(setting)
  const text = await world.seal(setting.device, runWithdraw(run))
  const [[first], [again]] = [await world.apply('run_withdraw', [text]), await world.apply('run_withdraw', [text])]
  t.deepEqual(again, first)
  const several = [runWithdraw(run), runWithdraw(run)]
  const outcomes = await world.apply(
    'run_withdraw',
    await Promise.all(several.map((body) => world.seal(setting.device, body))),
  )
  for (const { result } of outcomes) t.deepEqual(result, first?.result)
  t.is((await withdrawalsOf(run)).length, 1)
  t.deepEqual(
    await rowsOf(
      `SELECT payload FROM audit.pending WHERE kid = $1 AND event_kind = 'run_withdraw' ORDER BY id LIMIT 1`,
      setting.device.id,
    ),
    [{ payload: { ok: true, result: first?.result } }],
    'AU-2',
  )
})

test('law 4: a device takes its own runs back and no other, each in a batch on its own', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const sibling = { ...mine, device: await world.addDevice(mine.lenser) }
  const [own, theirs, nearby] = [await awaiting(mine), await awaiting(other), await start(sibling)]
  const over = await start(mine)
  await world.send(mine.device, attestation({ run_id: over }))
  const texts = await Promise.all(
    [theirs, own, nearby, newUuidV7(), over].map((run) => world.seal(mine.device, runWithdraw(run))),
  )
  t.deepEqual(
    (await world.apply('run_withdraw', texts)).map(({ code }) => code ?? 'ok'),
    ['run_not_owned', 'ok', 'run_not_owned', 'unknown_run', 'run_ended'],
  )
  for (const run of [theirs, nearby, over]) t.deepEqual(await withdrawalsOf(run), [])
  t.like((await rowsOf('SELECT decision FROM agents.approvals WHERE run_id = $1', theirs))[0], { decision: null })
})

test('a device that may run nothing still gives up what it asked for; one that is revoked is no more', async (t) => {
  const setting = await addSetting(world)
  const [run, late] = [await awaiting(setting), await awaiting(setting)]
  await world.setLevel(setting.device, 'unhealthy')
  t.like((await withdraw(setting, run)).result, withdrawn)
  await world.setLevel(setting.device, 'revoked')
  t.is((await withdraw(setting, late)).code, 'device_revoked')
  t.deepEqual(await withdrawalsOf(late), [])
})

test('rule 6: a run that was allowed is denied from then on, and what is attested of it afterwards did not pass, whenever it claims to have ended', async (t) => {
  const setting = await addSetting(world)
  const began = Date.now() - 20_000
  const [run, kept] = [await start(setting, began), await start(setting, began)]
  await world.send(setting.device, runWithdraw(run), { stored: began + 10_000 })
  t.deepEqual(await rowsOf('SELECT run_id FROM execution.open_runs WHERE lenser_id = $1', setting.lenser), [
    { run_id: kept },
  ])
  t.like((await world.send(setting.device, runRenew([run]))).result.runs[0], withdrawn)
  const ended = ranAt(began + 9_000)
  const passed = async (run_id: string) =>
    (await world.send(setting.device, attestation({ run_id }, ended))).result.facts.policy_passed
  t.deepEqual([await passed(run), await passed(kept)], [false, true])
})

test('rule 15: taken back before the attestation was stored, and applied after it, it did not pass either', async (t) => {
  const setting = await addSetting(world)
  const began = Date.now() - 20_000
  const run = await start(setting, began)
  const attested = await world.send(setting.device, attestation({ run_id: run }, ranAt(began + 15_000)))
  t.true(attested.result.facts.policy_passed)
  t.like((await world.send(setting.device, runWithdraw(run), { stored: began + 10_000 })).result, withdrawn)
  t.deepEqual(await rowsOf('SELECT run_id FROM execution.reevaluations WHERE run_id = $1 AND due_at <= now()', run), [
    { run_id: run },
  ])
  await world.evaluator.query('SELECT execution.fn_reevaluate_due(100)')
  const [{ facts }] = (await rowsOf(
    'SELECT facts FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
    run,
  )) as [{ facts: Record<string, boolean> }]
  t.false(facts.policy_passed)
})

test('what was refused at its start, or denied since, stays what it was', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, 'deny')
  const refused = await start(setting)
  t.like((await withdraw(setting, refused)).result, {
    verdict: 'deny',
    reason: 'approval_default_deny',
    decision: null,
  })
  await setPolicy(setting, 'allow')
  const denied = await start(setting)
  await setPolicy(setting, 'deny')
  await world.send(setting.device, runRenew([denied]))
  t.like((await withdraw(setting, denied)).result, { verdict: 'deny', reason: 'approval_default_deny' })
  const late = await awaiting(setting)
  await world.owner.query(
    `UPDATE agents.approvals SET requested_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'
      WHERE run_id = $1`,
    [late],
  )
  t.like((await withdraw(setting, late)).result, { ...withdrawn, decision: null }, 'its time was over already')
  for (const run of [refused, denied]) t.deepEqual(await withdrawalsOf(run), [])
})
