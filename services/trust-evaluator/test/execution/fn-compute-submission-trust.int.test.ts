import { newUuidV7 } from '@lenserfight/envelope'
import { makeBattle, makeContender } from '@lenserfight/testkit'
import test from 'ava'
import fc from 'fast-check'
import {
  addSetting,
  addSubmission,
  attestation,
  beatOf,
  ranAt,
  runAndAttest,
  runStart,
  type Setting,
  startRun,
} from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const due = async (runId: unknown): Promise<Date | undefined> =>
  (
    await world.one<{ due_at: Date } | undefined>('SELECT due_at FROM execution.reevaluations WHERE run_id = $1', [
      runId,
    ])
  )?.due_at
const reevaluate = async (): Promise<void> => {
  await world.evaluator.query('SELECT execution.fn_reevaluate_due(100)')
}
const levelOf = async (runId: unknown): Promise<string | undefined> =>
  (
    await world.one<{ trust_level: string } | undefined>(
      'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
      [runId],
    )
  )?.trust_level
const evaluations = async (runId: unknown): Promise<number> =>
  (
    await world.one<{ n: number }>('SELECT count(*)::int AS n FROM execution.trust_evaluations WHERE run_id = $1', [
      runId,
    ])
  ).n
const compute = async (runId: unknown) =>
  (await world.evaluator.query('SELECT * FROM execution.fn_compute_submission_trust($1)', [[runId]])).rows[0]
const bare = ({ runner, version }: Setting) => runStart({ runner_id: runner, version_id: version })

test.serial('EA-5: judging again without new evidence says the same and writes nothing', async (t) => {
  const { result } = await runAndAttest(world, await addSetting(world))
  const before = await evaluations(result.run_id)
  const { trust_level, facts, ladder } = await compute(result.run_id)
  t.deepEqual(
    { trust_level, facts, ladder },
    { trust_level: 'fully_trusted', facts: result.facts, ladder: result.ladder },
  )
  t.is(await evaluations(result.run_id), before)
})

test.serial(
  'rule 3: where a heartbeat alone is missing, the run is judged once more after a minute, and then no more',
  async (t) => {
    const setting = await addSetting(world)
    const { result: permit } = await world.send(setting.device, bare(setting))
    await world.send(setting.device, attestation(permit))
    const { recorded_at } = await world.one<{ recorded_at: Date }>(
      'SELECT * FROM execution.attestations WHERE run_id = $1',
      [permit.run_id],
    )
    t.deepEqual(await due(permit.run_id), new Date(recorded_at.getTime() + 60_000))
    await reevaluate()
    t.truthy(await due(permit.run_id), 'not before its time')
    // The same attestation of another run, recorded a minute earlier: its time has come.
    const { result: older } = await world.send(setting.device, bare(setting))
    await world.owner.query(
      `INSERT INTO execution.attestations
     SELECT (jsonb_populate_record(a, jsonb_build_object('id', uuidv7(), 'run_id', $2::uuid,
              'recorded_at', now() - interval '60 seconds'))).*
       FROM execution.attestations a WHERE a.run_id = $1`,
      [permit.run_id, older.run_id],
    )
    await world.owner.query('INSERT INTO execution.reevaluations VALUES ($1, now())', [older.run_id])
    await reevaluate()
    t.is(await levelOf(older.run_id), 'agent_verified')
    t.is(await due(older.run_id), undefined, 'no more')
    t.truthy(await due(permit.run_id))
  },
)

test.serial('rule 3: nothing is judged before its time', async (t) => {
  const { result } = await runAndAttest(world, await addSetting(world))
  const at = new Date(Date.now() + 30_000)
  await world.owner.query('INSERT INTO execution.reevaluations VALUES ($1, $2)', [result.run_id, at])
  await reevaluate()
  t.deepEqual(await due(result.run_id), at)
})

test.serial('rule 3: other failures wait for nothing', async (t) => {
  const setting = await addSetting(world)
  const { result: permit } = await world.send(setting.device, bare(setting))
  await world.setLevel(setting.device, 'unhealthy')
  await world.send(setting.device, attestation(permit))
  t.is(await due(permit.run_id), undefined)
})

test.serial(
  'rule 15: a heartbeat stored in time and applied late raises the level, and its loss does not lower it',
  async (t) => {
    const setting = await addSetting(world)
    const now = Date.now()
    const { result: permit } = await world.send(setting.device, bare(setting))
    await world.send(setting.device, attestation(permit, ranAt(now)), { stored: now })
    t.is(await levelOf(permit.run_id), 'agent_verified')
    await world.send(setting.device, beatOf(setting), { stored: now - 1000 })
    await reevaluate()
    t.is(await levelOf(permit.run_id), 'fully_trusted')
    await world.owner.query('DELETE FROM devices.heartbeats WHERE device_id = $1', [setting.device.id])
    await compute(permit.run_id)
    t.is(await levelOf(permit.run_id), 'fully_trusted')
  },
)

test.serial('a submission of another account is not the requester’s: unverified, whatever was attested', async (t) => {
  const setting = await addSetting(world)
  const { result } = await runAndAttest(world, setting)
  const submission = await addSubmission(world, await world.addLenser())
  await world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [result.run_id, submission])
  await reevaluate()
  t.is(await levelOf(result.run_id), 'unverified')
  const give = () =>
    world.owner.query('UPDATE battles.submissions SET submitter_lenser_id = $2 WHERE id = $1', [
      submission,
      setting.lenser,
    ])
  t.is(((await t.throwsAsync(give)) as Error & { code?: string }).code, 'LT003', 'a run backs it')
  // By a superuser's own hand, past the guard: what the level rests on is judged anew whoever changed it.
  await world.owner.query('ALTER TABLE battles.submissions DISABLE TRIGGER guard_submission')
  await give()
  await world.owner.query('ALTER TABLE battles.submissions ENABLE ALWAYS TRIGGER guard_submission')
  await reevaluate()
  t.is(await levelOf(result.run_id), 'fully_trusted')
})

test.serial('a submission of another contender than the run’s does not lift it', async (t) => {
  const setting = await addSetting(world)
  const battle = await makeBattle(world.owner)
  const contender = () => makeContender(world.owner, { kind: 'ai_agent', lenser: setting.lenser, battle })
  const permit = await startRun(world, setting, { contender_id: await contender() })
  await world.send(setting.device, attestation(permit))
  t.is(await levelOf(permit.run_id), 'fully_trusted')
  const submission = await addSubmission(world, setting.lenser, await contender())
  await world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [permit.run_id, submission])
  await reevaluate()
  t.is(await levelOf(permit.run_id), 'account_verified')
})

test.serial('rule 15: any order of link, attestation, heartbeats and judging gives the same final level', async (t) => {
  const steps = ['heartbeat', 'late heartbeat', 'link', 'attestation', 'judge'] as const
  const orders = fc.shuffledSubarray([...steps], { minLength: steps.length, maxLength: steps.length })
  const beats = fc.constantFrom('in time', 'too early', 'too late')
  await fc.assert(
    fc.asyncProperty(orders, beats, fc.boolean(), async (order, beat, foreign) => {
      const setting = await addSetting(world)
      const now = Date.now()
      const beatAt = { 'in time': now - 299_000, 'too early': now - 301_000, 'too late': now + 1000 }[beat]
      const submission = await addSubmission(world, foreign ? await world.addLenser() : setting.lenser)
      const { result: permit } = await world.send(setting.device, bare(setting), { stored: now - 20_000 })
      const take: Record<(typeof steps)[number], () => Promise<unknown>> = {
        heartbeat: () => world.send(setting.device, beatOf(setting), { stored: beatAt }),
        'late heartbeat': () => world.send(setting.device, beatOf(setting), { stored: now + 2000 }),
        link: () => world.owner.query('INSERT INTO execution.links VALUES ($1, $2)', [permit.run_id, submission]),
        attestation: () => world.send(setting.device, attestation(permit, ranAt(now)), { stored: now }),
        judge: reevaluate,
      }
      for (const step of order) await take[step]()
      await reevaluate()
      const expected = beat === 'in time' ? 'fully_trusted' : 'agent_verified'
      return (await levelOf(permit.run_id)) === (foreign ? 'unverified' : expected)
    }),
    { numRuns: 40, seed: 20261121 },
  )
  t.pass()
})

test.serial('two judges at once and writers among them leave one history, ending at the true level', async (t) => {
  const setting = await addSetting(world)
  const now = Date.now()
  const permits = await Promise.all(
    [1, 2, 3, 4].map(async () => (await world.send(setting.device, bare(setting))).result),
  )
  await Promise.all([
    ...permits.map((permit) => world.send(setting.device, attestation(permit), { stored: now })),
    world.send(setting.device, beatOf(setting), { stored: now - 1000 }),
    reevaluate(),
    reevaluate(),
    world.evaluator.query('SELECT execution.fn_compute_submission_trust($1)', [
      permits.map(({ run_id }) => run_id).reverse(),
    ]),
  ])
  // Heartbeat and attestation in flight together do not see each other: the minute of rule 3 passes.
  await world.owner.query('UPDATE execution.reevaluations SET due_at = now()')
  await reevaluate()
  for (const { run_id } of permits) t.is(await levelOf(run_id), 'fully_trusted')
})

test.serial(
  'EA-5: its owner reads a level by fn_get_submission_trust and fn_get_run_trust; nobody else does',
  async (t) => {
    const [mine, other] = [newUuidV7(), newUuidV7()]
    const lenser = await world.addLenser(mine)
    await world.addLenser(other)
    const device = await world.addDevice(lenser)
    const [submission, unrun] = [await addSubmission(world, lenser), await addSubmission(world, lenser)]
    const { result } = await world.send(device, runStart({ submission_id: submission }))
    const as = async (user: string, text: string): Promise<Record<string, unknown>[]> => {
      const client = await world.owner.connect()
      try {
        await client.query('BEGIN')
        await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: user })])
        await client.query('SET LOCAL ROLE authenticated')
        return (await client.query(text)).rows
      } finally {
        await client.query('ROLLBACK')
        client.release()
      }
    }
    const of = (id: string) => `SELECT * FROM execution.fn_get_submission_trust('${id}')`
    t.like((await as(mine, of(submission)))[0], {
      run_id: result.run_id,
      trust_level: 'account_verified',
      reason: 'contender_is_agent',
    })
    t.like((await as(mine, of(unrun)))[0], { run_id: null, trust_level: 'unverified' })
    t.like((await as(mine, `SELECT * FROM execution.fn_get_run_trust('${result.run_id}')`))[0], {
      submission_id: submission,
    })
    t.deepEqual(await as(other, of(submission)), [])
    t.deepEqual(await as(other, `SELECT * FROM execution.fn_get_run_trust('${result.run_id}')`), [])
    for (const table of ['runs', 'links', 'attestations', 'trust_evaluations', 'runners', 'runner_device_bindings']) {
      t.deepEqual(await as(other, `SELECT * FROM execution.${table}`), [], table)
    }
    for (const table of ['devices.heartbeats', 'execution.reevaluations']) {
      const error = (await t.throwsAsync(as(mine, `SELECT * FROM ${table}`))) as Error & { code?: string }
      t.is(error.code, '42501')
    }
    t.is(
      (
        (await t.throwsAsync(as(mine, `INSERT INTO execution.links VALUES (uuidv7(), uuidv7())`))) as Error & {
          code?: string
        }
      ).code,
      '42501',
    )
  },
)
