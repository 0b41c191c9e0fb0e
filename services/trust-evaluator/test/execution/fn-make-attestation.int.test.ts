import test from 'ava'
import { addSetting, attestation, beatOf, runAndAttest, runStart, startRun } from '../_bodies.ts'
import { bytesOf, createWorld, hashOf, type World } from '../_world.ts'

// What execution.fn_make_attestation derives, each fact with what makes it true and what makes it false.
let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const isStored = async (runId: unknown): Promise<boolean> =>
  (await world.owner.query('SELECT FROM execution.attestations WHERE run_id = $1', [runId])).rowCount === 1

test('AC-3: policy_passed needs the recorded verdict allow', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'require_human')`,
    [setting.lenser],
  )
  const { result } = await runAndAttest(world, setting, { policy_passed: true })
  t.like(result, { level: 'execution_verified', reason: 'policy_passed' })
})

test('PE-3: of a run whose verdict was deny no attestation is stored', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query(`INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'deny')`, [
    setting.lenser,
  ])
  const permit = await startRun(world, setting)
  t.is(permit.verdict, 'deny')
  t.is((await world.send(setting.device, attestation(permit))).code, 'policy_denied')
  t.false(await isStored(permit.run_id))
})

test('a run other than the permitted one has not passed its policy', async (t) => {
  const setting = await addSetting(world)
  for (const more of [{ command_hash: hashOf(8) }, { inputs: [] }]) {
    t.like((await runAndAttest(world, setting, more)).result, { level: 'execution_verified', reason: 'policy_passed' })
  }
})

test('WT-1 WT-2: hashes other than the pinned version’s count for nothing; without a version the top is out of reach', async (t) => {
  const setting = await addSetting(world)
  for (const more of [{ lens_hash: hashOf(8) }, { workflow_hash: hashOf(8) }, { lens_hash: null }]) {
    t.like((await runAndAttest(world, setting, more)).result, { level: 'agent_verified', reason: 'version_unchanged' })
  }
  await world.send(setting.device, beatOf(setting))
  const { result: free } = await world.send(setting.device, runStart({ runner_id: setting.runner }))
  t.like((await world.send(setting.device, attestation(free))).result, {
    level: 'execution_verified',
    reason: 'workflow_hash',
  })
  const { result: unpinned } = await world.send(setting.device, runStart({ runner_id: setting.runner }))
  const invented = attestation(unpinned, { lens_hash: hashOf(4), workflow_hash: hashOf(5) })
  t.like((await world.send(setting.device, invented)).result, { level: 'agent_verified', reason: 'version_unchanged' })
})

test('WT-2: a version altered since the permit is not the one that was pinned', async (t) => {
  const setting = await addSetting(world)
  const permit = await startRun(world, setting)
  await world.owner.query('UPDATE lenses.versions SET workflow_hash = $2 WHERE id = $1', [setting.version, bytesOf(8)])
  t.is((await world.send(setting.device, attestation(permit))).result.reason, 'version_unchanged')
})

test('RH-4: without a heartbeat stored in the five minutes before, the level stays at agent_verified', async (t) => {
  const now = Date.now()
  const cases = [
    [301_000, 'agent_verified'],
    [299_000, 'fully_trusted'],
    [0, 'fully_trusted'],
    [-1000, 'agent_verified'],
  ] as const
  for (const [before, level] of cases) {
    const setting = await addSetting(world)
    await world.send(setting.device, beatOf(setting), { stored: now - before })
    const started = runStart({ runner_id: setting.runner, version_id: setting.version })
    const { result } = await world.send(setting.device, started)
    const outcome = await world.send(setting.device, attestation(result), { stored: now })
    t.is(outcome.result.level, level, `${before} ms before`)
  }
})

test('RH-1: a binding that ended before the attestation does not count, one that ended after does', async (t) => {
  const end = (runner: string, at: string) =>
    world.owner.query(
      `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = ${at} WHERE runner_id = $1`,
      [runner],
    )
  const cases = [
    [`now() - interval '1 second'`, 'device_verified', 'binding_active'],
    [`now() + interval '1 minute'`, 'fully_trusted', null],
  ] as const
  for (const [at, level, reason] of cases) {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    await end(setting.runner, at)
    t.like((await world.send(setting.device, attestation(permit))).result, { level, reason })
  }
})

test('a runner bound only after the permit never counts', async (t) => {
  const setting = await addSetting(world)
  const runner = await world.insert('execution.runners', { lenser_id: setting.lenser, name: 'late' })
  const permit = await startRun(world, { ...setting, runner })
  await world.insert('execution.runner_device_bindings', { runner_id: runner, device_id: setting.device.id })
  t.like((await world.send(setting.device, attestation(permit))).result, {
    level: 'device_verified',
    reason: 'binding_active',
  })
})
