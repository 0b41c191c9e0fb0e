import { newUuidV7 } from '@lenserfight/envelope'
import { makeBattle, makeContender } from '@lenserfight/testkit'
import test from 'ava'
import fc from 'fast-check'
import {
  addSetting,
  addSubmission,
  addVersion,
  attestation,
  beatOf,
  heartbeat,
  ranAt,
  runAndAttest,
  runStart,
  type Setting,
  startRun,
} from '../_bodies.ts'
import { bytesOf, createWorld, hashOf, type World } from '../_world.ts'

// The fifteen rules of the ladder, each with rows that come about as they do in earnest. Rule 3 has its tests beside
// fn_compute_submission_trust, more of rule 8 beside compromises, rule 14 beside XP. Serial: claims are declared void for all.
let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

type Body = Record<string, unknown>
const levelOf = async (run: unknown): Promise<string | undefined> =>
  (
    await world.one<{ trust_level: string } | undefined>(
      'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
      [run],
    )
  )?.trust_level
const evaluations = async (run: unknown) =>
  (
    await world.owner.query<{ trust_level: string; reason: string | null }>(
      'SELECT trust_level, reason FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id',
      [run],
    )
  ).rows
const isStored = async (run: unknown): Promise<boolean> =>
  (await world.owner.query('SELECT FROM execution.attestations WHERE run_id = $1', [run])).rowCount === 1
const evaluator = async (call: string): Promise<number> =>
  Object.values((await world.evaluator.query<Record<string, number>>(`SELECT ${call}`)).rows[0] ?? {})[0] ?? 0
/** Everything that the evaluator's loop would come to. */
const settle = async (): Promise<void> => {
  for (const call of ['execution.fn_queue_compromised(1000)', 'execution.fn_queue_invalidated(1000)']) {
    while ((await evaluator(call)) === 1000);
  }
  while ((await evaluator('execution.fn_reevaluate_due(1000)')) === 1000);
}
const rejudge = async (run: unknown): Promise<string | undefined> => {
  await world.evaluator.query('SELECT execution.fn_compute_submission_trust($1)', [[run]])
  return levelOf(run)
}
const attest = (setting: Setting, permit: Body, more: Body = {}, stored = Date.now()) =>
  world.send(setting.device, attestation(permit, { ...ranAt(stored), ...more }), { stored })
const endBinding = (runner: string, at: Date = new Date()) =>
  world.owner.query(
    `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = $2 WHERE runner_id = $1 AND status = 'active'`,
    [runner, at],
  )
const rehash = (version: string, byte: number) =>
  world.owner.query('UPDATE lenses.versions SET lens_hash = $2 WHERE id = $1', [version, bytesOf(byte)])

/** Declares claims void as a role; the SQLSTATE where it may not. */
const declareVoid = async (role: string, since: Date | null): Promise<string> => {
  const client = await world.owner.connect()
  try {
    await client.query(`SET ROLE ${role}`)
    await client.query(`SELECT devices.fn_invalidate_claims($1, 'a verifier that lied')`, [since])
    return 'done'
  } catch (error) {
    return (error as { code: string }).code
  } finally {
    await client.query('RESET ROLE')
    client.release()
  }
}

interface Verdict {
  readonly phase?: 'start' | 'renewal' | 'approval'
  readonly verdict?: 'allow' | 'deny' | 'pause' | 'require_approval'
  /** Milliseconds since 1970. */
  readonly asked: number
  /** For how long it covers, milliseconds; absent: not at all. */
  readonly covers?: number
}
const reasons = { allow: 'approval_default_allow', deny: 'kill_switch', pause: 'runner_paused' } as const
const addVerdict = async (run: unknown, { phase = 'renewal', verdict = 'allow', asked, covers }: Verdict) => {
  const reason = verdict === 'require_approval' ? 'approval_default_require_human' : reasons[verdict]
  await world.owner.query(
    `INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, covered_until)
     SELECT r.id, r.requester_lenser_id, $2, $3, $4, $5, $6 FROM execution.runs r WHERE r.id = $1`,
    [run, phase, verdict, reason, new Date(asked), covers === undefined ? null : new Date(asked + covers)],
  )
}
const addTool = async (run: unknown, seq: number, { denied = false, stored = Date.now() - 1000 } = {}) => {
  await world.owner.query(
    `INSERT INTO agents.tool_invocations
       (run_id, seq, lenser_id, tool, arguments_hash, verdict, denied_by, op_id, digest, stored_at)
     SELECT r.id, $2, r.requester_lenser_id, 'mcp/read', $3, $4, $5, uuidv7(), $3, $6 FROM execution.runs r WHERE r.id = $1`,
    [run, seq, bytesOf(seq), denied ? 'deny' : 'allow', denied ? 'mcp/*' : null, new Date(stored)],
  )
}

test.serial(
  'rule 1: nothing that happens after the attestation changes its level, and judging again writes nothing',
  async (t) => {
    const setting = await addSetting(world)
    const { result } = await runAndAttest(world, setting)
    const before = await evaluations(result.run_id)
    t.is(before.at(-1)?.trust_level, 'fully_trusted')
    await endBinding(setting.runner)
    await rehash(setting.version, 9)
    await world.setLevel(setting.device, 'unhealthy')
    await addVerdict(result.run_id, { verdict: 'pause', asked: Date.now() + 1000 })
    await world.owner.query(
      `INSERT INTO agents.workspace_settings (lenser_id, global_kill_switch, runner_paused) VALUES ($1, true, true)`,
      [setting.lenser],
    )
    await world.owner.query('DELETE FROM devices.heartbeats WHERE device_id = $1', [setting.device.id])
    await settle()
    t.is(await rejudge(result.run_id), 'fully_trusted')
    t.deepEqual(await evaluations(result.run_id), before)
  },
)

test.serial(
  'rule 2 RH-4: a heartbeat is needed of the named runner, where it ran, and of the device where none is named',
  async (t) => {
    const setting = await addSetting(world)
    const { device, runner, version } = setting
    const sibling = await world.addDevice(setting.lenser)
    const attempt = async (beats: () => Promise<unknown>, named: Body) => {
      await world.owner.query('DELETE FROM devices.heartbeats')
      await beats()
      const { result } = await world.send(device, runStart({ version_id: version, ...named }))
      return (await attest(setting, result)).result
    }
    const byRunner = { runner_id: runner }
    const contender = { contender_id: await makeContender(world.owner, { kind: 'ai_agent', lenser: setting.lenser }) }
    t.like(await attempt(() => world.send(device, heartbeat()), byRunner), {
      level: 'agent_verified',
      reason: 'heartbeat_fresh',
    })
    t.like(await attempt(() => world.send(sibling, beatOf(setting)), byRunner), { reason: 'heartbeat_fresh' })
    t.like(await attempt(() => world.send(device, beatOf(setting)), byRunner), { level: 'fully_trusted' })
    t.like(await attempt(async () => {}, contender), { level: 'agent_verified', reason: 'heartbeat_fresh' })
    t.like(await attempt(() => world.send(device, heartbeat()), contender), {
      level: 'device_verified',
      reason: 'runner_named',
    })
    // The ceiling is everybody's: to end the binding raises nothing.
    await endBinding(runner)
    t.like(await attempt(() => world.send(device, heartbeat()), byRunner), { level: 'agent_verified' })
  },
)

test.serial(
  'rule 4: of two attestations the first is judged whole; nothing of the second is added to it',
  async (t) => {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    t.like((await attest(setting, permit, { command_hash: hashOf(8) })).result, { level: 'execution_verified' })
    t.is((await attest(setting, permit)).code, 'already_attested')
    await settle()
    t.is(await rejudge(permit.run_id), 'execution_verified')
  },
)

test.serial(
  'rule 5 AC-3: whatever is attested otherwise than permitted, policy_passed is false; what is named alike is true',
  async (t) => {
    const setting = await addSetting(world)
    const other = await addSetting(world)
    const contender = await makeContender(world.owner, { kind: 'ai_agent', lenser: setting.lenser })
    const alike = { runner_id: setting.runner, contender_id: contender, version_id: setting.version }
    const differences: Body[] = [
      { command_hash: hashOf(8) },
      { inputs: [] },
      { inputs: [{ name: 'in.txt', sha256: hashOf(2), bytes: 4 }] },
      ...[other.runner, null].map((runner_id) => ({ runner_id })),
      ...[newUuidV7(), null].map((contender_id) => ({ contender_id })),
      ...[other.version, null].map((version_id) => ({ version_id })),
    ]
    for (const more of differences) {
      const permit = await startRun(world, setting, { contender_id: contender })
      const { result } = await attest(setting, permit, { ...alike, ...more, policy_passed: true })
      t.like(result, { level: 'execution_verified', reason: 'policy_passed' }, JSON.stringify(more))
    }
    const permit = await startRun(world, setting, { contender_id: contender })
    t.like((await attest(setting, permit, alike)).result, { level: 'fully_trusted' })
  },
)

test.serial(
  'rule 6: verdicts and claimed times: what covers a run from its start to its end, and what does not',
  async (t) => {
    const end = Date.now()
    // Milliseconds from the run's permit to its claimed end; its permit covers 60 s.
    const cases: [string, { lasts: number; verdicts?: Verdict[]; more?: Body }, boolean][] = [
      ['within its permit', { lasts: 59_000 }, true],
      ['to the last covered second', { lasts: 60_000 }, true],
      ['past its permit', { lasts: 61_000 }, false],
      ['renewed in time', { lasts: 70_000, verdicts: [{ asked: end - 20_000, covers: 60_000 }] }, true],
      ['renewed after a gap', { lasts: 200_000, verdicts: [{ asked: end - 20_000, covers: 60_000 }] }, false],
      ['renewed, and past that', { lasts: 90_000, verdicts: [{ asked: end - 70_000, covers: 60_000 }] }, false],
      ['paused before its end', { lasts: 50_000, verdicts: [{ asked: end - 1000, verdict: 'pause' }] }, false],
      ['denied before its end', { lasts: 50_000, verdicts: [{ asked: end - 1000, verdict: 'deny' }] }, false],
      ['paused after its end', { lasts: 50_000, verdicts: [{ asked: end + 1000, verdict: 'pause' }] }, true],
      [
        'paused, then allowed again',
        {
          lasts: 50_000,
          verdicts: [
            { asked: end - 30_000, verdict: 'pause' },
            { asked: end - 20_000, covers: 60_000 },
          ],
        },
        false,
      ],
      ['claimed to have begun before its permit', { lasts: 20_000, more: { started_at: end - 26_000 } }, false],
      ['begun within the slack of clocks', { lasts: 20_000, more: { started_at: end - 24_000 } }, true],
      ['claimed to end before it began', { lasts: 20_000, more: { started_at: end + 1 } }, false],
      ['claimed to end after it was told', { lasts: 20_000, more: { ended_at: end + 6000 } }, false],
    ]
    for (const [name, { lasts, verdicts = [], more = {} }, isPassed] of cases) {
      const setting = await addSetting(world)
      const permit = await startRun(world, setting, {}, { stored: end - lasts })
      await world.send(setting.device, beatOf(setting), { stored: end - 1 })
      for (const verdict of verdicts) await addVerdict(permit.run_id, verdict)
      const { result } = await attest(setting, permit, { started_at: end - lasts, ...more }, end)
      t.is(result.level, isPassed ? 'fully_trusted' : 'execution_verified', name)
      t.is(result.facts.policy_passed, isPassed, name)
    }
  },
)

test.serial('rule 6 AC-3: a run that awaited a person passed only once approved, and covered from then', async (t) => {
  const setting = await addSetting(world)
  await world.owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, approval_default) VALUES ($1, 'require_human')`,
    [setting.lenser],
  )
  const cases: [Verdict[], string][] = [
    [[], 'execution_verified'],
    [[{ phase: 'approval', asked: Date.now() - 5000 }], 'execution_verified'],
    [[{ asked: Date.now() - 2000, covers: 60_000 }], 'execution_verified'],
    [
      [
        { phase: 'approval', asked: Date.now() - 5000 },
        { asked: Date.now() - 2000, covers: 60_000 },
      ],
      'fully_trusted',
    ],
    // Renewed before the answer, and judged after it: what ran was not approved yet.
    [
      [
        { phase: 'approval', asked: Date.now() + 30_000 },
        { asked: Date.now() - 2000, covers: 60_000 },
      ],
      'execution_verified',
    ],
    [
      [
        { phase: 'approval', verdict: 'deny', asked: Date.now() - 5000 },
        { asked: Date.now() - 2000, covers: 60_000 },
      ],
      'execution_verified',
    ],
  ]
  for (const [verdicts, level] of cases) {
    const permit = await startRun(world, setting)
    t.is(permit.verdict, 'require_approval')
    for (const verdict of verdicts) await addVerdict(permit.run_id, verdict)
    const { result } = await attest(setting, permit)
    t.is(result.level, level)
    t.true(await isStored(permit.run_id))
  }
})

test.serial(
  'rule 6 PE-3: of a run that was denied or paused at its start nothing is stored, whatever is allowed later',
  async (t) => {
    for (const [column, verdict] of [
      ['global_kill_switch', 'deny'],
      ['runner_paused', 'pause'],
    ] as const) {
      const setting = await addSetting(world)
      await world.owner.query(`INSERT INTO agents.workspace_settings (lenser_id, ${column}) VALUES ($1, true)`, [
        setting.lenser,
      ])
      const permit = await startRun(world, setting)
      t.is(permit.verdict, verdict)
      await world.owner.query(`UPDATE agents.workspace_settings SET ${column} = false WHERE lenser_id = $1`, [
        setting.lenser,
      ])
      await addVerdict(permit.run_id, { asked: Date.now(), covers: 60_000 })
      t.is((await attest(setting, permit)).code, 'policy_denied')
      t.false(await isStored(permit.run_id))
      await settle()
      t.is(await levelOf(permit.run_id), 'agent_verified')
    }
  },
)

test.serial('rule 6 WT-3: the tool log is whole, without a gap, and nothing in it was denied', async (t) => {
  const cases: [string, number | undefined, (run: unknown) => Promise<unknown>, boolean][] = [
    ['none', undefined, async () => {}, true],
    ['as many as said', 2, (run) => Promise.all([addTool(run, 1), addTool(run, 2)]), true],
    ['fewer', 2, (run) => addTool(run, 1), false],
    ['more', 1, (run) => Promise.all([addTool(run, 1), addTool(run, 2)]), false],
    ['more than none', undefined, (run) => addTool(run, 1), false],
    ['with a gap', 2, (run) => Promise.all([addTool(run, 1), addTool(run, 3)]), false],
    ['one denied', 2, (run) => Promise.all([addTool(run, 1), addTool(run, 2, { denied: true })]), false],
    ['logged after it ended', 1, (run) => addTool(run, 1, { stored: Date.now() + 60_000 }), false],
  ]
  for (const [name, said, log, isPassed] of cases) {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    await log(permit.run_id)
    const more = said === undefined ? {} : { tool_invocations: said }
    t.is((await attest(setting, permit, more)).result.level, isPassed ? 'fully_trusted' : 'execution_verified', name)
  }
})

test.serial(
  'rule 7 AC-2: revoked, blocked or suspended between claim and record: stored, and not trusted',
  async (t) => {
    for (const level of ['revoked', 'blocked', 'unhealthy'] as const) {
      const setting = await addSetting(world)
      const permit = await startRun(world, setting)
      const text = await world.seal(setting.device, attestation(permit))
      await world.setLevel(setting.device, level)
      const [outcome] = await world.apply('attestation', [text])
      t.like(outcome?.result, { level: 'agent_verified', reason: 'device_trusted' })
      t.true(await isStored(permit.run_id))
    }
  },
)

test.serial('rule 8: found unhealthy later, nothing that a device attested before changes', async (t) => {
  const setting = await addSetting(world)
  const { result } = await runAndAttest(world, setting)
  await world.setLevel(setting.device, 'unhealthy')
  await settle()
  t.is(await rejudge(result.run_id), 'fully_trusted')
})

test.serial(
  'rule 9 KS-2: what arrives while its account is paused waits, and is not lost; what was stored has its result',
  async (t) => {
    const setting = await addSetting(world)
    const pause = (paused: boolean) =>
      world.owner.query(
        `INSERT INTO agents.workspace_settings (lenser_id, runner_paused) VALUES ($1, $2)
       ON CONFLICT (lenser_id) DO UPDATE SET runner_paused = $2`,
        [setting.lenser, paused],
      )
    const first = attestation(await startRun(world, setting))
    const done = await world.send(setting.device, first)
    const permit = await startRun(world, setting)
    const body = attestation(permit)
    await pause(true)
    t.is((await world.send(setting.device, body)).code, 'workspace_paused')
    t.false(await isStored(permit.run_id))
    t.deepEqual((await world.send(setting.device, first)).result, done.result)
    t.deepEqual((await world.send(setting.device, { ...first, op_id: newUuidV7() })).result, done.result)
    t.is((await world.send(setting.device, { ...first, op_id: newUuidV7(), exit_code: 1 })).code, 'already_attested')
    await pause(false)
    t.like((await world.send(setting.device, body)).result, { level: 'fully_trusted' })
  },
)

test.serial(
  'rule 10: the binding is the permit’s own row, from before it until the attestation was stored',
  async (t) => {
    const bind = ({ runner, device }: Setting, id = device.id) =>
      world.insert('execution.runner_device_bindings', { runner_id: runner, device_id: id })
    const cases: [string, (setting: Setting) => Promise<unknown>, string][] = [
      ['all the while', async () => {}, 'fully_trusted'],
      ['ended before', ({ runner }) => endBinding(runner), 'device_verified'],
      ['ended, and bound anew', (setting) => endBinding(setting.runner).then(() => bind(setting)), 'device_verified'],
      [
        'bound away and back',
        async (setting) => {
          const sibling = await world.addDevice(setting.lenser)
          await endBinding(setting.runner)
          await bind(setting, sibling.id)
          await endBinding(setting.runner)
          await bind(setting)
        },
        'device_verified',
      ],
      ['to end later', ({ runner }) => endBinding(runner, new Date(Date.now() + 60_000)), 'fully_trusted'],
    ]
    for (const [name, between, level] of cases) {
      const setting = await addSetting(world)
      const permit = await startRun(world, setting)
      await between(setting)
      t.is((await attest(setting, permit)).result.level, level, name)
    }
    // Known late: what ended before, and was written down after, counts all the same.
    const setting = await addSetting(world)
    const { result } = await runAndAttest(world, setting)
    await endBinding(setting.runner, new Date(Date.now() - 5000))
    await settle()
    t.is(await levelOf(result.run_id), 'device_verified')
  },
)

test.serial(
  'rule 11 WT-2: a version that changed while a run was under way costs its attestation; what came before or after does not',
  async (t) => {
    const setting = await addSetting(world)
    const level = async (
      between: () => Promise<unknown>,
      after: (permit: Body) => Promise<unknown> = async () => {},
    ) => {
      const permit = await startRun(world, setting)
      await between()
      // After the database's own clock, which counts parts of a millisecond too.
      await attest(setting, permit, {}, Date.now() + 1)
      await after(permit)
      await settle()
      return rejudge(permit.run_id)
    }
    const there = () => rehash(setting.version, 9)
    const andBack = () => there().then(() => rehash(setting.version, 4))
    t.is(await level(async () => {}), 'fully_trusted')
    t.is(await level(andBack), 'agent_verified', 'there and back')
    t.is(await level(async () => {}), 'fully_trusted', 'changed before the permit')
    t.is(await level(async () => {}, andBack), 'fully_trusted', 'changed after the attestation')
    t.is(await level(() => addVersion(world, setting.lenser)), 'fully_trusted', 'a newer one is no change')
    t.is(await level(there), 'agent_verified')
    t.is(await level(async () => {}), 'fully_trusted', 'pinned as it is now')
    const changes = await world.owner.query(
      'SELECT lens_hash, workflow_hash FROM lenses.version_changes WHERE version_id = $1 ORDER BY id',
      [setting.version],
    )
    t.deepEqual(changes.rows[0], { lens_hash: bytesOf(4), workflow_hash: bytesOf(5) }, 'what it was')
    t.is(changes.rows.length, 5)
  },
)

test.serial('WT-2: of a version only its hashes change, and one that runs are pinned to stays', async (t) => {
  const setting = await addSetting(world)
  await startRun(world, setting)
  const code = async (text: string) =>
    ((await t.throwsAsync(world.owner.query(text, [setting.version]))) as Error & { code?: string }).code
  for (const set of ['number = 7', 'id = uuidv7()', 'workflow_id = NULL, workflow_hash = NULL', 'created_at = now()']) {
    t.is(await code(`UPDATE lenses.versions SET ${set} WHERE id = $1`), 'LT003', set)
  }
  t.is(await code('DELETE FROM lenses.versions WHERE id = $1'), '23503')
  await world.owner.query('UPDATE lenses.versions SET lens_hash = lens_hash WHERE id = $1', [setting.version])
  const { rows } = await world.owner.query('SELECT FROM lenses.version_changes WHERE version_id = $1', [
    setting.version,
  ])
  t.is(rows.length, 0, 'what stays the same is no change')
})

test.serial(
  'rule 12: claims declared void since a date cost what rests on them, in steps; before and after stand, and rows stay',
  async (t) => {
    const setting = await addSetting(world)
    const before = (await runAndAttest(world, setting)).result
    const { since } = await world.one<{ since: Date }>('SELECT clock_timestamp() AS since')
    const void1 = (await runAndAttest(world, setting)).result
    const void2 = (await runAndAttest(world, setting)).result
    t.is(await declareVoid('service_role', since), 'done')
    const after = (await runAndAttest(world, setting)).result
    t.is(await levelOf(void1.run_id), 'fully_trusted', 'until it is judged again')
    t.deepEqual(
      [await evaluator('execution.fn_queue_invalidated(1)'), await evaluator('execution.fn_queue_invalidated(1)')],
      [1, 1],
    )
    t.is(await evaluator('execution.fn_queue_invalidated(5)'), 1, 'its end')
    t.is(await evaluator('execution.fn_queue_invalidated(5)'), 0)
    await settle()
    for (const { run_id } of [void1, void2]) {
      t.deepEqual((await evaluations(run_id)).slice(-2), [
        { trust_level: 'fully_trusted', reason: null },
        { trust_level: 'runner_verified', reason: 'gateway_verified' },
      ])
      t.true(
        (
          await world.one<{ gateway_verified: boolean }>('SELECT * FROM execution.attestations WHERE run_id = $1', [
            run_id,
          ])
        ).gateway_verified,
      )
    }
    for (const { run_id } of [before, after]) t.is(await rejudge(run_id), 'fully_trusted')
  },
)

test.serial(
  'rule 12: claims declared void while an attestation is being stored cost it too, swept or not',
  async (t) => {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    const text = await world.seal(setting.device, attestation(permit))
    const [platform, applier] = [await world.owner.connect(), await world.evaluator.connect()]
    await platform.query('BEGIN')
    await platform.query(`SELECT devices.fn_invalidate_claims(now() - interval '1 minute', 'x')`)
    await applier.query('BEGIN')
    const applied = applier.query('SELECT FROM execution.fn_record_execution_attestation($1)', [[text]])
    await new Promise((resolve) => setTimeout(resolve, 300))
    await platform.query('COMMIT')
    await applied
    await settle()
    await applier.query('COMMIT')
    for (const client of [platform, applier]) client.release()
    await settle()
    t.deepEqual((await evaluations(permit.run_id)).at(-1), {
      trust_level: 'runner_verified',
      reason: 'gateway_verified',
    })
  },
)

test.serial('rule 12: nobody but the platform declares claims void, and not from a time to come', async (t) => {
  for (const role of ['ltg_trust_evaluator', 'ltg_verifier', 'ltg_registrar', 'authenticated', 'anon']) {
    t.is(await declareVoid(role, new Date()), '42501', role)
  }
  t.is(await declareVoid('service_role', new Date(Date.now() + 60_000)), 'LT001')
  t.is(await declareVoid('service_role', null), 'LT001')
})

test.serial('rule 13: a run backs one submission, and a submission has one run', async (t) => {
  const setting = await addSetting(world)
  const [one, two] = [await addSubmission(world, setting.lenser), await addSubmission(world, setting.lenser)]
  const [first, second] = [await startRun(world, setting, { submission_id: one }), await startRun(world, setting)]
  const link = (run: unknown, submission: string) =>
    world.owner.query('INSERT INTO execution.links (run_id, submission_id) VALUES ($1, $2)', [run, submission])
  for (const [run, submission] of [
    [first.run_id, two],
    [second.run_id, one],
  ] as const) {
    t.is(((await t.throwsAsync(link(run, submission))) as Error & { code?: string }).code, '23505')
  }
})

test.serial(
  'rule 15 WT-3: a renewal and a tool entry stored before the attestation and applied after it count; later ones are run_ended',
  async (t) => {
    const setting = await addSetting(world)
    const end = Date.now()
    const begun = end - 90_000
    const permit = await startRun(world, setting, {}, { stored: begun })
    await world.send(setting.device, beatOf(setting), { stored: end - 1 })
    const more = { started_at: begun, tool_invocations: 1 }
    t.like((await attest(setting, permit, more, end)).result, { level: 'execution_verified', reason: 'policy_passed' })
    const renewal = { kind: 'run_renew' as const, runs: [permit.run_id] }
    const tool = (seq: number) => ({
      ...{ kind: 'tool_invocation' as const, op_id: newUuidV7(end - 10_000), run_id: permit.run_id, seq },
      ...{ tool: 'mcp/read', arguments_hash: hashOf(7) },
    })
    t.is((await world.send(setting.device, renewal, { stored: begun + 50_000 })).result.runs[0].verdict, 'allow')
    t.true((await world.send(setting.device, tool(1), { stored: end - 10_000 })).ok)
    await settle()
    t.is(await levelOf(permit.run_id), 'fully_trusted')
    t.is((await world.send(setting.device, renewal, { stored: end + 1 })).result.runs[0].code, 'run_ended')
    t.is((await world.send(setting.device, tool(2), { stored: end + 1 })).code, 'run_ended')
    const open = await world.owner.query('SELECT FROM execution.open_runs WHERE run_id = $1', [permit.run_id])
    t.is(open.rowCount, 0, 'a late renewal opens nothing that ended')
    await settle()
    t.is(await levelOf(permit.run_id), 'fully_trusted')
  },
)

test.serial(
  'what is attested and what it rests on, changed at once: whoever comes second sees the first',
  async (t) => {
    const changes: [string, string, (setting: Setting, permit: Body) => Promise<unknown>][] = [
      ['its binding ends', 'device_verified', ({ runner }) => endBinding(runner, new Date(Date.now() - 5000))],
      [
        'a pause',
        'execution_verified',
        (_, { run_id }) => addVerdict(run_id, { verdict: 'pause', asked: Date.now() - 5000 }),
      ],
      [
        'a tool',
        'execution_verified',
        (_, { run_id }) => addTool(run_id, 1, { denied: true, stored: Date.now() - 5000 }),
      ],
      [
        'its claim is void',
        'runner_verified',
        () => world.owner.query(`SELECT devices.fn_invalidate_claims(now() - interval '1 second', 'x')`),
      ],
    ]
    for (const [name, level, change] of changes) {
      const setting = await addSetting(world)
      const permit = await startRun(world, setting)
      const stored = Date.now()
      const text = await world.seal(setting.device, attestation(permit, ranAt(stored)), { stored })
      const connection = await world.evaluator.connect()
      try {
        await connection.query('BEGIN')
        await connection.query('SELECT FROM execution.fn_record_execution_attestation($1)', [[text]])
        const changing = change(setting, permit)
        const { rows } = await connection.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
        const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND $1 = ANY (pg_blocking_pids(pid))`
        for (const end = Date.now() + 60_000; (await world.owner.query(waiting, [rows[0]?.pid])).rowCount === 0; ) {
          if (Date.now() > end) throw new Error(`${name}: nobody waits for the attestation`)
          await new Promise((resolve) => setTimeout(resolve, 10))
        }
        await connection.query('COMMIT')
        await changing
      } finally {
        connection.release()
      }
      t.is(await levelOf(permit.run_id), 'fully_trusted', name)
      await settle()
      t.is(await levelOf(permit.run_id), level, name)
    }
  },
)

/** What comes to be known of a run, whatever comes first. */
interface Story {
  readonly isForeign: boolean
  readonly beat: 'in time' | 'too early' | 'of the device alone'
  readonly compromised: 'never' | 'before' | 'after'
  readonly versionChanged: 'never' | 'meanwhile' | 'after'
  readonly bindingEnded: 'never' | 'before' | 'after'
  readonly isVoid: boolean
  readonly isRenewed: boolean
  readonly paused: 'never' | 'before' | 'after'
  readonly tools: 'whole' | 'one missing' | 'one denied'
}
const story: fc.Arbitrary<Story> = fc.record({
  isForeign: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  beat: fc.constantFrom('in time', 'in time', 'in time', 'too early', 'of the device alone'),
  compromised: fc.constantFrom('never', 'never', 'after', 'before'),
  versionChanged: fc.constantFrom('never', 'never', 'after', 'meanwhile'),
  bindingEnded: fc.constantFrom('never', 'never', 'after', 'before'),
  isVoid: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
  isRenewed: fc.integer({ min: 0, max: 4 }).map((n) => n > 0),
  paused: fc.constantFrom('never', 'never', 'after', 'before'),
  tools: fc.constantFrom('whole', 'whole', 'one missing', 'one denied'),
})
/** The trust model's table, read anew. */
const literally = (said: Story): string => {
  if (said.isForeign) return 'unverified'
  if (said.compromised === 'before' || said.versionChanged === 'meanwhile' || said.beat !== 'in time')
    return 'agent_verified'
  if (said.bindingEnded === 'before') return 'device_verified'
  if (said.isVoid) return 'runner_verified'
  return said.isRenewed && said.paused !== 'before' && said.tools === 'whole' ? 'fully_trusted' : 'execution_verified'
}

test.serial(
  'rule 15 EA-5: run, link, attestation, heartbeat, renewals, tools, compromise, binding, version, void claims: any order, one level',
  async (t) => {
    const steps = [
      'link',
      'attestation',
      'beat',
      'compromise',
      'version',
      'binding',
      'void',
      'renewal',
      'pause',
      'tools',
      'judge',
    ] as const
    const orders = fc.shuffledSubarray([...steps], { minLength: steps.length, maxLength: steps.length })
    const reached = new Set<string>()
    await fc.assert(
      fc.asyncProperty(orders, story, async (order, said) => {
        const setting = await addSetting(world)
        const submission = await addSubmission(world, said.isForeign ? await world.addLenser() : setting.lenser)
        const begun = Date.now() - 90_000
        const named = { runner_id: setting.runner, version_id: setting.version, op_id: newUuidV7(begun) }
        const { result: permit } = await world.send(setting.device, runStart(named), { stored: begun })
        // The end is past what the permit alone covers, and just after the run's row was written.
        const end = Date.now() + 1
        // What is declared void is so up to the moment of declaring it, which may be the first step.
        while (Date.now() <= end) await new Promise((done) => setImmediate(done))
        const body = attestation(permit, { started_at: begun, ended_at: end, tool_invocations: 2 })
        const at = (when: string, ms = 5000) => new Date(when === 'after' ? end + ms : end - ms)
        const take: Record<(typeof steps)[number], () => Promise<unknown>> = {
          link: () => world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [permit.run_id, submission]),
          attestation: () => world.send(setting.device, body, { stored: end }),
          beat: () =>
            world.send(setting.device, said.beat === 'of the device alone' ? heartbeat() : beatOf(setting), {
              stored: said.beat === 'too early' ? end - 301_000 : end - 1000,
            }),
          compromise: async () => {
            if (said.compromised === 'never') return
            await world.owner.query(
              `INSERT INTO devices.compromises (device_id, kind, since, reason, declared_at) VALUES ($1, 'fork', $2, 'x', $2)`,
              [setting.device.id, at(said.compromised)],
            )
          },
          version: async () => {
            if (said.versionChanged === 'never') return
            await world.owner.query(
              `INSERT INTO lenses.version_changes (version_id, changed_at, lens_hash, workflow_hash)
             SELECT version_id, coalesce($2, issued_at), lens_hash, workflow_hash FROM execution.runs WHERE id = $1`,
              [permit.run_id, said.versionChanged === 'after' ? at('after') : null],
            )
          },
          binding: async () => {
            if (said.bindingEnded !== 'never') await endBinding(setting.runner, at(said.bindingEnded))
          },
          void: async () => {
            if (said.isVoid) await declareVoid('service_role', new Date(end - 1000))
          },
          renewal: async () => {
            if (said.isRenewed) await addVerdict(permit.run_id, { asked: begun + 50_000, covers: 60_000 })
          },
          pause: async () => {
            if (said.paused !== 'never')
              await addVerdict(permit.run_id, { verdict: 'pause', asked: at(said.paused).getTime() })
          },
          tools: async () => {
            await addTool(permit.run_id, 2, { denied: said.tools === 'one denied' })
            if (said.tools !== 'one missing') await addTool(permit.run_id, 1)
          },
          judge: settle,
        }
        for (const step of order) await take[step]()
        await settle()
        const level = await levelOf(permit.run_id)
        reached.add(level ?? 'none')
        return level === literally(said)
      }),
      { numRuns: 60, seed: 20261121 },
    )
    t.true(reached.size >= 5, [...reached].join())
  },
)

test.serial(
  'EA-3 AC-1 AC-2 AC-3: no value that a client may send raises a level above what an honest run of the same rows has',
  async (t) => {
    const flags = ['signed', 'gateway_verified', 'device_trusted', 'policy_passed'] as const
    const lies = fc.record({
      flags: fc.dictionary(fc.constantFrom(...flags), fc.boolean()),
      outputs: fc.constantFrom([], [{ name: 'trust_level', sha256: hashOf(6), bytes: 0 }]),
      exit_code: fc.constantFrom(0, 1, 255, null),
      isStale: fc.boolean(),
      isPaused: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(lies, async ({ flags: sent, isStale, isPaused, ...members }) => {
        const setting = await addSetting(world)
        const permit = await startRun(world, setting)
        if (isStale) await world.owner.query('DELETE FROM devices.heartbeats WHERE device_id = $1', [setting.device.id])
        if (isPaused) await addVerdict(permit.run_id, { verdict: 'pause', asked: Date.now() - 1000 })
        const { result } = await attest(setting, permit, { ...sent, ...members })
        const expected = isStale ? 'agent_verified' : isPaused ? 'execution_verified' : 'fully_trusted'
        return result.level === expected
      }),
      { numRuns: 25, seed: 20261121 },
    )
    t.pass()
  },
)

test.serial('a batch of hundreds: each is judged by its own rows, in its place', async (t) => {
  const setting = await addSetting(world)
  const battle = await makeBattle(world.owner)
  const human = await makeContender(world.owner, { kind: 'human', lenser: setting.lenser, battle })
  await world.send(setting.device, beatOf(setting))
  const starts = Array.from({ length: 200 }, (_, n) =>
    runStart({
      runner_id: setting.runner,
      version_id: setting.version,
      ...(n % 3 === 0 ? { contender_id: human } : {}),
    }),
  )
  const permits = await world.apply(
    'run_start',
    await Promise.all(starts.map((body) => world.seal(setting.device, body))),
  )
  const bodies = permits.map(({ result }, n) => attestation(result, n % 5 === 0 ? { inputs: [] } : {}))
  const outcomes = await world.apply(
    'attestation',
    await Promise.all(bodies.map((body) => world.seal(setting.device, body))),
  )
  t.deepEqual(
    outcomes.map(({ result }) => [result.run_id, result.level]),
    permits.map(({ result }, n) => [
      result.run_id,
      n % 3 === 0 ? 'account_verified' : n % 5 === 0 ? 'execution_verified' : 'fully_trusted',
    ]),
  )
})
