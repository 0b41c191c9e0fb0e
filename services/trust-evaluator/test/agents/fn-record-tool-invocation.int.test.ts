import { newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { addSetting, attestation, runRenew, runStart, type Setting, toolInvocation } from '../_bodies.ts'
import { createWorld, hashOf, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const setPolicy = (lenser: string, name: string, value: unknown) =>
  world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, ${name}) VALUES ($1, $2) ON CONFLICT (lenser_id) DO UPDATE SET ${name} = $2`,
    [lenser, value],
  )
const start = async ({ device }: Setting): Promise<string> => (await world.send(device, runStart())).result.run_id
const log = async (run: string) =>
  (
    await world.owner.query(
      'SELECT seq, tool, verdict, denied_by, lenser_id FROM agents.tool_invocations WHERE run_id = $1 ORDER BY seq',
      [run],
    )
  ).rows as { seq: number; tool: string; verdict: string; denied_by: string | null; lenser_id: string }[]

test('WT-3: each tool that a run uses is logged with the policy’s verdict; one that is denied is logged too', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, 'denied_tools', ['shell', 'mcp/secrets*', 'mcp/*.exe'])
  const run = await start(setting)
  const told = async (seq: number, tool: string) =>
    (await world.send(setting.device, toolInvocation(run, seq, { tool }))).result
  t.deepEqual(await told(1, 'mcp/files.read'), { run_id: run, seq: 1, verdict: 'allow', denied_by: null })
  t.deepEqual(await told(2, 'shell'), { run_id: run, seq: 2, verdict: 'deny', denied_by: 'shell' })
  t.deepEqual(await told(3, 'mcp/secrets.get'), { run_id: run, seq: 3, verdict: 'deny', denied_by: 'mcp/secrets*' })
  t.like(await told(4, 'mcp/secrets'), { verdict: 'deny' })
  // Neither a beginning of a name without a star, nor a star inside one, denies anything else.
  t.like(await told(5, 'shellcheck'), { verdict: 'allow' })
  t.like(await told(6, 'mcp/a.exe'), { verdict: 'allow' })
  t.deepEqual(
    (await log(run)).map(({ seq, verdict, lenser_id }) => [seq, verdict, lenser_id]),
    ['allow', 'deny', 'deny', 'deny', 'allow', 'allow'].map((verdict, n) => [n + 1, verdict, setting.lenser]),
  )
})

test('a star alone denies every tool, and the denied tools are those of the moment', async (t) => {
  const setting = await addSetting(world)
  const run = await start(setting)
  t.like((await world.send(setting.device, toolInvocation(run, 1))).result, { verdict: 'allow' })
  await setPolicy(setting.lenser, 'denied_tools', ['*'])
  t.like((await world.send(setting.device, toolInvocation(run, 2))).result, { verdict: 'deny', denied_by: '*' })
})

test('law 2: an entry that comes again is the same entry; another under its place is tool_out_of_order', async (t) => {
  const setting = await addSetting(world)
  const run = await start(setting)
  const body = toolInvocation(run, 1)
  const first = await world.send(setting.device, body)
  await setPolicy(setting.lenser, 'denied_tools', ['*'])
  t.deepEqual((await world.send(setting.device, body)).result, first.result)
  // As another operation, since an edge may have forgotten the first.
  t.deepEqual((await world.send(setting.device, toolInvocation(run, 1))).result, first.result)
  t.is((await world.send(setting.device, toolInvocation(run, 1, { tool: 'shell' }))).code, 'tool_out_of_order')
  t.is(
    (await world.send(setting.device, toolInvocation(run, 1, { arguments_hash: hashOf(9) }))).code,
    'tool_out_of_order',
  )
  t.is((await log(run)).length, 1)
})

test('a batch: entries of several runs in any order, two for one place, and neighbours that are refused', async (t) => {
  const setting = await addSetting(world)
  const [one, two] = [await start(setting), await start(setting)]
  const now = Date.now()
  const sent = [
    toolInvocation(two, 2),
    toolInvocation(one, 1, { tool: 'second' }),
    toolInvocation(newUuidV7(), 1),
    toolInvocation(two, 1),
  ]
  const texts = await Promise.all(sent.map((body) => world.seal(setting.device, body, { stored: now })))
  texts.push(await world.seal(setting.device, toolInvocation(one, 1, { tool: 'first' }), { stored: now - 1000 }))
  const outcomes = await world.apply('tool_invocation', texts)
  t.deepEqual(
    outcomes.map(({ code, result }) => code ?? result.seq),
    [2, 'tool_out_of_order', 'unknown_run', 1, 1],
  )
  t.deepEqual(
    (await log(one)).map(({ tool }) => tool),
    ['first'],
    'the broker’s order decides',
  )
  t.is((await log(two)).length, 2)
})

test('replicas at once: one place has one entry, and whoever meant another is told', async (t) => {
  const setting = await addSetting(world)
  const run = await start(setting)
  const tools = ['a', 'b', 'a', 'c']
  const outcomes = await Promise.all(tools.map((tool) => world.send(setting.device, toolInvocation(run, 1, { tool }))))
  const [entry] = await log(run)
  t.deepEqual(
    outcomes.map(({ code }) => code),
    tools.map((tool) => (tool === entry?.tool ? undefined : 'tool_out_of_order')),
  )
})

test('what is another’s, another device’s, over, or was never allowed logs nothing', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const sibling = { ...mine, device: await world.addDevice(mine.lenser) }
  const code = async (run: unknown) => (await world.send(mine.device, toolInvocation(run, 1))).code
  t.is(await code(newUuidV7()), 'unknown_run')
  t.is(await code(await start(other)), 'run_not_owned')
  t.is(await code(await start(sibling)), 'run_not_owned')
  const over = await start(mine)
  await world.send(mine.device, attestation({ run_id: over }))
  t.is(await code(over), 'run_ended')
  await setPolicy(mine.lenser, 'approval_default', 'deny')
  t.is(await code(await start(mine)), 'policy_denied')
  await setPolicy(mine.lenser, 'approval_default', 'require_human')
  const waiting = await start(mine)
  t.is(await code(waiting), 'policy_denied')
  await world.owner.query(
    `UPDATE agents.approvals SET decision = 'approve', decided_at = clock_timestamp(), decided_by = uuidv7() WHERE run_id = $1`,
    [waiting],
  )
  t.is(await code(waiting), undefined)
  await world.send(mine.device, runRenew([waiting]))
  const { n } = await world.one<{ n: number }>(
    'SELECT count(*)::int AS n FROM agents.tool_invocations WHERE lenser_id = ANY ($1)',
    [[mine.lenser, other.lenser]],
  )
  t.is(n, 1)
})

test('AU-2: an entry and its audit record are one transaction; a device that may not work logs nothing', async (t) => {
  const setting = await addSetting(world)
  const run = await start(setting)
  const good = await world.send(setting.device, toolInvocation(run, 1))
  await world.setLevel(setting.device, 'unhealthy')
  t.is((await world.send(setting.device, toolInvocation(run, 2))).code, 'device_unhealthy')
  t.is((await world.send(setting.device, toolInvocation(run, 2), { verdict: 'none' })).code, 'claim_expired')
  const { rows } = await world.owner.query(
    `SELECT op_id, payload FROM audit.pending WHERE kid = $1 AND event_kind = 'tool_invocation' ORDER BY id`,
    [setting.device.id],
  )
  t.deepEqual(rows, [{ op_id: good.op_id, payload: { ok: true, result: good.result } }])
  t.is((await log(run)).length, 1)
})

// Serial: TRUNCATE asks for locks that its neighbours hold.
test.serial('a tool log is append-only, for the superuser too', async (t) => {
  const setting = await addSetting(world)
  await world.send(setting.device, toolInvocation(await start(setting), 1))
  for (const statement of [
    'DELETE FROM agents.tool_invocations',
    `UPDATE agents.tool_invocations SET verdict = 'allow', denied_by = NULL`,
    'TRUNCATE agents.tool_invocations',
  ]) {
    t.is(((await t.throwsAsync(world.owner.query(statement))) as Error & { code?: string }).code, 'LT003', statement)
  }
})
