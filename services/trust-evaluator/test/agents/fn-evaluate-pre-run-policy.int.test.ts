import { createHash } from 'node:crypto'
import { newUuidV7 } from '@lenserfight/envelope'
import { limits, type PolicyReason, type PolicyVerdict } from '@lenserfight/schemas'
import { makeContender } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { addRunner, addSetting, addSubmission, attestation, runRenew, runStart, type Setting } from '../_bodies.ts'
import { createWorld, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const setPolicy = async (lenser: string, settings: Record<string, unknown>): Promise<void> => {
  await world.owner.query('INSERT INTO agents.workspace_settings (lenser_id) VALUES ($1) ON CONFLICT DO NOTHING', [
    lenser,
  ])
  for (const [name, value] of Object.entries(settings)) {
    await world.owner.query(`UPDATE agents.workspace_settings SET ${name} = $2 WHERE lenser_id = $1`, [lenser, value])
  }
}
const setBounds = (lenser: string, daily: number | null, parallel: number | null) =>
  world.owner.query(
    `INSERT INTO agents.quotas (lenser_id, daily_runs, max_parallel_runs) VALUES ($1, $2, $3)
     ON CONFLICT (lenser_id) DO UPDATE SET daily_runs = $2, max_parallel_runs = $3`,
    [lenser, daily, parallel],
  )
/** Stored as late as a broker's clock may say, so that no cover ends while a test goes on. */
const lately = () => ({ stored: Date.now() + 240_000 })
const start = ({ device }: Pick<Setting, 'device'>, more: Record<string, unknown> = {}): Promise<Outcome> =>
  world.send(device, runStart(more), lately())
const startAll = async (setting: Setting, count: number): Promise<Outcome[]> =>
  world.apply(
    'run_start',
    await Promise.all(Array.from({ length: count }, () => world.seal(setting.device, runStart(), lately()))),
  )
/** Runs a test that counts what happened today once more where the day (UTC) ended meanwhile. */
const withinOneDay = async (t: ExecutionContext, work: (t: ExecutionContext) => Promise<void>): Promise<void> => {
  const today = () => new Date().toISOString().slice(0, 10)
  for (let day = ''; day !== today(); ) {
    day = today()
    const attempt = await t.try(work)
    if (day === today()) attempt.commit()
    else attempt.discard()
  }
}
/** Requests in the order in which one batch's are judged: that of their op_ids. */
const sealInOrder = (setting: Setting, bodies: readonly Record<string, unknown>[]): Promise<string[]> => {
  const ids = bodies.map(() => newUuidV7()).toSorted()
  return Promise.all(
    bodies.map((body, n) => world.seal(setting.device, runStart({ ...body, op_id: ids[n] }), lately())),
  )
}
const verdicts = (outcomes: readonly Outcome[]) => outcomes.map(({ result, code }) => code ?? result.reason).toSorted()
const decide = (run: string, decision: 'approve' | 'deny') =>
  world.owner.query(
    `WITH decided AS (
       UPDATE agents.approvals SET decision = $2, decided_at = clock_timestamp(), decided_by = uuidv7() WHERE run_id = $1
       RETURNING run_id, lenser_id)
     INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at)
     SELECT run_id, lenser_id, 'approval', CASE $2 WHEN 'approve' THEN 'allow' ELSE 'deny' END,
            CASE $2 WHEN 'approve' THEN 'approved' ELSE 'approval_denied' END, now() FROM decided`,
    [run, decision],
  )

/** The spec's order; each has what brings it about for an account. */
const order: readonly [PolicyReason, PolicyVerdict, (lenser: string) => Promise<unknown>][] = [
  ['kill_switch', 'deny', (lenser) => setPolicy(lenser, { global_kill_switch: true })],
  ['runner_paused', 'pause', (lenser) => setPolicy(lenser, { runner_paused: true })],
  [
    'budget_used_up',
    'deny',
    (lenser) =>
      world.owner.query(
        'INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, 0) ON CONFLICT (lenser_id) DO UPDATE SET daily_runs = 0',
        [lenser],
      ),
  ],
  [
    'parallel_limit',
    'deny',
    (lenser) =>
      world.owner.query(
        'INSERT INTO agents.quotas (lenser_id, max_parallel_runs) VALUES ($1, 0) ON CONFLICT (lenser_id) DO UPDATE SET max_parallel_runs = 0',
        [lenser],
      ),
  ],
  ['dark_launch', 'deny', (lenser) => setPolicy(lenser, { dark_launch_percent: 0 })],
  [
    'approval_default_require_human',
    'require_approval',
    (lenser) => setPolicy(lenser, { approval_default: 'require_human' }),
  ],
]
const defaultDenies = [
  'approval_default_deny',
  'deny',
  (lenser: string) => setPolicy(lenser, { approval_default: 'deny' }),
] as const

test('PE-1: each rule of the order decides alone, and the earlier of any two wins; every verdict is a row', async (t) => {
  const rules = [...order, defaultDenies]
  const pairs = rules.flatMap((one, n) => [[one], ...rules.slice(n + 1).map((other) => [one, other])])
  for (const pair of pairs) {
    // The last two are two values of one setting.
    if (pair.length === 2 && pair[0] === order.at(-1)) continue
    const setting = await addSetting(world)
    // Later ones first, so that nothing rests on the order in which they were set.
    for (const [, , arrange] of pair.toReversed()) await arrange(setting.lenser)
    const { result } = await start(setting, { version_id: setting.version })
    const [[reason, verdict]] = pair as [(typeof rules)[number]]
    const told = pair.map(([name]) => name).join(' before ')
    t.like(result, { verdict, reason }, told)
    const { rows } = await world.owner.query(
      'SELECT phase, verdict, reason, lenser_id FROM agents.policy_evaluations WHERE run_id = $1',
      [result.run_id],
    )
    t.deepEqual(rows, [{ phase: 'start', verdict, reason, lenser_id: setting.lenser }], told)
  }
  const { result } = await start(await addSetting(world))
  t.like(result, { verdict: 'allow', reason: 'approval_default_allow' })
})

test('PE-3: what is denied or paused at its start covers nothing, awaits nobody and takes no submission', async (t) => {
  for (const [, verdict, arrange] of [...order.slice(0, 5), defaultDenies]) {
    const setting = await addSetting(world)
    await arrange(setting.lenser)
    const submission_id = await addSubmission(world, setting.lenser)
    const { result } = await start(setting, { version_id: setting.version, submission_id })
    t.like(result, { verdict, covered_until: null, approval_expires_at: null })
    for (const table of ['execution.links', 'agents.approvals', 'execution.open_runs']) {
      t.is((await world.owner.query(`SELECT FROM ${table} WHERE run_id = $1`, [result.run_id])).rows.length, 0, table)
    }
  }
})

test('the daily budget counts runs that were allowed or approved, of the account alone, and awaiting ones as if they were', (t) =>
  withinOneDay(t, async (t) => {
    const [setting, other] = [await addSetting(world), await addSetting(world)]
    await setBounds(setting.lenser, 3, null)
    t.is((await start(setting)).result.verdict, 'allow')
    await setPolicy(setting.lenser, { approval_default: 'require_human' })
    const [one, two] = [await start(setting), await start(setting)]
    t.deepEqual([one?.result.verdict, two?.result.verdict], ['require_approval', 'require_approval'])
    t.is((await start(setting)).result.reason, 'budget_used_up')
    // What was denied gives its place back, what was approved keeps it.
    await decide(one?.result.run_id, 'deny')
    await decide(two?.result.run_id, 'approve')
    t.is((await start(setting)).result.verdict, 'require_approval')
    t.is((await start(setting)).result.reason, 'budget_used_up')
    t.is((await start(other)).result.verdict, 'allow')
  }))

test('permits of a former day (UTC) use up nothing of today’s', (t) =>
  withinOneDay(t, async (t) => {
    const setting = await addSetting(world)
    await setBounds(setting.lenser, 1, null)
    const { result } = await start(setting)
    t.is((await start(setting)).result.reason, 'budget_used_up')
    const used = async (evaluated: string) => {
      const copy = await world.one<{ id: string }>(
        `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
         SELECT requester_lenser_id, device_id, uuidv7(), false, command_hash, inputs, started_at
           FROM execution.runs WHERE id = $1 RETURNING id`,
        [result.run_id],
      )
      await world.owner.query(
        `INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, evaluated_at)
         SELECT $1, $2, 'start', 'allow', 'approval_default_allow', now(), ${evaluated}`,
        [copy.id, setting.lenser],
      )
      const { runs } = await world.one<{ runs: string }>('SELECT runs_today AS runs FROM agents.fn_used($1)', [
        [setting.lenser],
      ])
      return Number(runs)
    }
    t.is(await used(`date_trunc('day', now(), 'UTC') - interval '1 microsecond'`), 1)
    t.is(await used(`date_trunc('day', now(), 'UTC')`), 2)
  }))

test('the parallel limit counts runs under way: an attested, denied or uncovered one gives its place back', async (t) => {
  const setting = await addSetting(world)
  await setBounds(setting.lenser, null, 2)
  const first = await start(setting)
  // Its cover ended before it was judged.
  const late = await world.send(setting.device, runStart(), { stored: Date.now() - (limits.permitSeconds + 5) * 1000 })
  t.is(late.result.verdict, 'allow')
  const second = await start(setting)
  t.is(second.result.verdict, 'allow')
  t.is((await start(setting)).result.reason, 'parallel_limit')
  t.true((await world.send(setting.device, attestation(first.result))).ok)
  t.is((await start(setting)).result.verdict, 'allow')
  t.is((await start(setting)).result.reason, 'parallel_limit')
  await setPolicy(setting.lenser, { global_kill_switch: true })
  await world.send(setting.device, runRenew([second.result.run_id]))
  await setPolicy(setting.lenser, { global_kill_switch: false, approval_default: 'require_human' })
  const waiting = await start(setting)
  t.is(waiting.result.verdict, 'require_approval')
  t.is((await start(setting)).result.reason, 'parallel_limit')
  await decide(waiting.result.run_id, 'deny')
  await world.send(setting.device, runRenew([waiting.result.run_id]))
  t.is((await start(setting)).result.verdict, 'require_approval')
})

test('no more than a bound are let through: in one batch, by replicas at once, by two devices of the account', (t) =>
  withinOneDay(t, async (t) => {
    const setting = await addSetting(world)
    await setBounds(setting.lenser, 5, 4)
    t.deepEqual(verdicts(await startAll(setting, 3)), Array(3).fill('approval_default_allow'))
    t.deepEqual(verdicts(await startAll(setting, 3)), ['approval_default_allow', 'parallel_limit', 'parallel_limit'])
    const racing = await addSetting(world)
    const sibling = { ...racing, device: await world.addDevice(racing.lenser) }
    await setBounds(racing.lenser, 5, null)
    const outcomes = await Promise.all([
      startAll(racing, 4),
      startAll(sibling, 4),
      startAll(racing, 4),
      startAll(sibling, 4),
    ])
    const counted = verdicts(outcomes.flat())
    t.is(counted.filter((reason) => reason === 'approval_default_allow').length, 5)
    t.is(counted.filter((reason) => reason === 'budget_used_up').length, 11)
  }))

test('a run outside a dark launch takes no place of those inside', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, { dark_launch_percent: 0 })
  await setBounds(setting.lenser, null, 1)
  const texts = await sealInOrder(setting, [{ version_id: setting.version }, {}, {}])
  t.deepEqual(verdicts(await world.apply('run_start', texts)).toSorted(), [
    'approval_default_allow',
    'dark_launch',
    'parallel_limit',
  ])
})

/** The same, told another way: four bytes of the hash of the id's text. */
const placeOf = (id: string): number => createHash('sha256').update(id).digest().readUInt32BE(0) % 100

test('a workflow’s place in a dark launch is stable: known vectors, and the same by another hand', async (t) => {
  const known = {
    '00000000-0000-4000-8000-000000000000': 96,
    '11111111-2222-4333-8444-555555555555': 74,
    'ffffffff-ffff-4fff-bfff-ffffffffffff': 29,
  }
  const placed = async (ids: readonly string[]) =>
    (await world.owner.query('SELECT agents.fn_launch_place(id) AS place FROM unnest($1::uuid[]) id', [ids])).rows.map(
      ({ place }: { place: number }) => place,
    )
  t.deepEqual(await placed(Object.keys(known)), Object.values(known))
  await t.notThrowsAsync(() =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.uuid(), { minLength: 1, maxLength: 50 }), async (ids) => {
        t.deepEqual(await placed(ids), ids.map(placeOf))
      }),
      { numRuns: 20 },
    ),
  )
})

test('a dark launch only ever lets in more: who is inside at a percentage is inside at every higher one', async (t) => {
  const { rows } = await world.owner.query(
    `SELECT w.id, p.percent, v.verdict
       FROM (SELECT uuidv7() AS id FROM generate_series(1, 40)) w
       CROSS JOIN generate_series(0, 100) AS p (percent)
       CROSS JOIN LATERAL agents.fn_policy_verdict(
         (SELECT jsonb_populate_record(NULL::agents.workspace_settings, jsonb_build_object('dark_launch_percent', p.percent))),
         w.id, false, false) v
      ORDER BY w.id, p.percent`,
  )
  for (let n = 0; n < rows.length; n += 101) {
    const told = rows.slice(n, n + 101).map(({ verdict }: { verdict: string }) => verdict)
    const place = placeOf(rows[n].id)
    t.deepEqual(told, [...Array(place + 1).fill('deny'), ...Array(100 - place).fill('allow')])
  }
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, { dark_launch_percent: 0 })
  t.is((await start(setting)).result.verdict, 'allow', 'a run without a workflow is inside')
})

test('a run awaits a person as long as the policy says', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, { approval_default: 'require_human', approval_seconds: 45 })
  const { result } = await start(setting)
  t.like(result, { verdict: 'require_approval', covered_until: null })
  t.is(result.approval_expires_at - result.issued_at, 45_000)
  t.like(await world.one('SELECT * FROM agents.approvals WHERE run_id = $1', [result.run_id]), {
    lenser_id: setting.lenser,
    decision: null,
    expires_at: new Date(result.approval_expires_at),
  })
})

test('RH-3: a runner that is bound to a revoked, blocked or unhealthy device starts nothing, from whatever device', async (t) => {
  for (const level of ['revoked', 'blocked', 'unhealthy'] as const) {
    const setting = await addSetting(world)
    const elsewhere = await world.addDevice(setting.lenser)
    const runner_id = await addRunner(world, elsewhere)
    t.is((await start(setting, { runner_id })).result.verdict, 'allow')
    await world.setLevel(elsewhere, level)
    t.is((await start(setting, { runner_id })).code, 'runner_device_unfit')
    t.is((await start({ device: elsewhere }, { runner_id })).code, `device_${level}`)
    t.true((await start(setting, { runner_id: setting.runner })).ok, 'its neighbour works')
    await world.owner.query(
      `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = now() WHERE runner_id = $1`,
      [runner_id],
    )
    t.true((await start(setting, { runner_id })).ok, 'nor does it hold it back once it is not bound there')
  }
})

test('run_limit: a device has so many runs under way and no more; the next waits, and is not lost', async (t) => {
  const setting = await addSetting(world)
  const sibling = { ...setting, device: await world.addDevice(setting.lenser) }
  const outcomes = [...(await startAll(setting, 200)), ...(await startAll(setting, 100))]
  t.is(outcomes.filter(({ ok }) => ok).length, limits.openRuns)
  const [refused] = outcomes.filter(({ ok }) => !ok)
  t.is(refused?.code, 'run_limit')
  t.true((await start(sibling)).ok)
  const body = runStart()
  t.is((await world.send(setting.device, body)).code, 'run_limit')
  const { result } = outcomes.find(({ ok }) => ok) as Outcome
  await world.send(setting.device, attestation(result))
  t.true((await world.send(setting.device, body)).ok)
})

test('of a batch for one submission the first that is allowed has it, and what was refused runs nothing', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting.lenser, { dark_launch_percent: 0 })
  const submission_id = await addSubmission(world, setting.lenser)
  const bodies = [{ version_id: setting.version, submission_id }, { submission_id }, { submission_id }, {}]
  const texts = await sealInOrder(setting, bodies)
  const outcomes = await world.apply('run_start', texts)
  t.deepEqual(
    outcomes.map(({ code, result }) => code ?? result.reason),
    ['dark_launch', 'approval_default_allow', 'submission_taken', 'approval_default_allow'],
  )
  t.is(
    (await world.owner.query('SELECT FROM execution.runs WHERE requester_lenser_id = $1', [setting.lenser])).rows
      .length,
    3,
  )
})

test('a large batch of several accounts: each is judged by its own policy, in its own place', async (t) => {
  const settings = await Promise.all(Array.from({ length: 4 }, () => addSetting(world)))
  const expected = [
    'approval_default_allow',
    'approval_default_deny',
    'approval_default_require_human',
    'runner_paused',
  ]
  await setPolicy(settings[1]?.lenser as string, { approval_default: 'deny' })
  await setPolicy(settings[2]?.lenser as string, { approval_default: 'require_human' })
  await setPolicy(settings[3]?.lenser as string, { runner_paused: true })
  const texts = await Promise.all(
    Array.from({ length: 200 }, async (_, n) => {
      const setting = settings[n % 4] as Setting
      const contender_id = await makeContender(world.owner, { lenser: setting.lenser })
      return world.seal(
        setting.device,
        runStart({ version_id: setting.version, runner_id: setting.runner, contender_id }),
      )
    }),
  )
  const outcomes = await world.apply('run_start', texts)
  t.deepEqual(
    outcomes.map(({ kid, result }) => [kid, result.reason]),
    texts.map((_, n) => [settings[n % 4]?.device.id, expected[n % 4]]),
  )
  t.is(new Set(outcomes.map(({ result }) => result.run_id)).size, 200)
  t.is(new Set(outcomes.map(({ result }) => result.contender_id)).size, 200)
})
