import { newUuidV7 } from '@lenserfight/envelope'
import { executionLevels } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { addSetting, addSubmission, attestation, beatOf, runStart, startRun } from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'
import {
  addJob,
  amountsOf,
  asRole,
  copyRun,
  evaluate,
  executionRule,
  ledgerOf,
  submitAndStart,
  trustedRun,
  work,
} from './_xp.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const refused = async (
  t: ExecutionContext,
  attempt: () => Promise<unknown>,
  state: string,
  what = '',
): Promise<void> => {
  const error = (await t.throwsAsync(attempt, undefined, what)) as (Error & { code?: string }) | undefined
  t.is(error?.code, state, `${what} ${error?.message}`)
}
const apply = (rule: string, source: string) =>
  asRole(world, { role: 'service_role', keep: true }, 'SELECT xp.apply($1, $2) AS stands', [rule, source])
const sumOf = async (lenser: string): Promise<number> =>
  (
    await world.one<{ sum: number }>(
      'SELECT coalesce(sum(amount), 0)::int AS sum FROM xp.ledger WHERE lenser_id = $1',
      [lenser],
    )
  ).sum

test.serial('each rule gives its amount to whom the source belongs, once, however often it is looked at', async (t) => {
  const setting = await addSetting(world)
  const { device, runner, lenser } = setting
  const submission = await addSubmission(world, lenser)
  const permit = await startRun(world, setting, { submission_id: submission })
  const { result } = await world.send(device, attestation(permit))
  t.is(result.level, 'fully_trusted')
  const expected: [string, string, number][] = [
    [device.id, 'DEVICE_REGISTERED', 5],
    [device.id, 'DEVICE_VERIFIED', 20],
    [runner, 'RUNNER_CONNECTED', 10],
    [submission, 'BATTLE_SUBMISSION_COMPLETED', 5],
    [String(permit.run_id), executionRule, 50],
  ]
  const given = async () =>
    (
      await world.owner.query('SELECT source_id, rule, amount FROM xp.ledger WHERE lenser_id = $1 ORDER BY id', [
        lenser,
      ])
    ).rows.map(({ source_id, rule, amount }) => [source_id, rule, amount])
  t.deepEqual(await given(), [], 'nothing is given in the transaction of what happened')
  await work(world)
  t.deepEqual((await given()).toSorted(), [...expected].toSorted())
  t.is(await sumOf(lenser), 90)
  // All of it again: jobs by hand, the platform’s call, and what happens a second time.
  for (const [source, rule, amount] of expected) {
    await addJob(world, rule, source, lenser)
    await addJob(world, rule, source, newUuidV7())
    t.deepEqual(await apply(rule, source), [{ stands: { minted: amount, reversed: 0 } }])
  }
  await world.setLevel(device, 'offline')
  await world.setLevel(device, 'approved')
  await world.owner.query(
    `UPDATE execution.runner_device_bindings SET status = 'ended', ended_at = now() WHERE runner_id = $1`,
    [runner],
  )
  await world.insert('execution.runner_device_bindings', { runner_id: runner, device_id: device.id })
  await evaluate(world, String(permit.run_id))
  t.is((await work(world)).failed, 0)
  t.is(await sumOf(lenser), 90)
})

test.serial(
  'a device that was never approved is not verified, one from before there were keys is neither',
  async (t) => {
    const lenser = await world.addLenser()
    const pending = await world.addDevice(lenser, [])
    const legacy = await world.insert('devices.registered_devices', {
      ...{ lenser_id: lenser, name: 'old', device_type: 'laptop', os: 'linux', is_legacy: true },
    })
    for (const device of [pending.id, legacy]) await addJob(world, 'DEVICE_VERIFIED', device, lenser)
    await work(world)
    t.deepEqual(await ledgerOf(world, pending.id), [['DEVICE_REGISTERED', 5]])
    t.deepEqual(await ledgerOf(world, legacy), [])
  },
)

test.serial('a rule that is switched off gives nothing, then or later, and still takes back', async (t) => {
  const { run } = await trustedRun(world)
  await work(world)
  const other = await copyRun(world, run)
  await world.owner.query('UPDATE xp.rules SET enabled = false WHERE code = $1', [executionRule])
  await evaluate(world, other)
  await evaluate(world, run, { without: ['device_trusted'] })
  t.is((await work(world)).failed, 0)
  await world.owner.query('UPDATE xp.rules SET enabled = true WHERE code = $1', [executionRule])
  await work(world)
  t.deepEqual([await amountsOf(world, run), await amountsOf(world, other)], [[50, -50], []])
})

test.serial(
  'AC-4: XP for a run needs an evaluation at the top on an attestation that the gateway verified: by job, by hand or by the platform',
  async (t) => {
    const { run, setting } = await trustedRun(world)
    await work(world)
    const honest = await world.one<{ attestation: string; evaluation: string }>(
      `SELECT attestation_id AS attestation, id AS evaluation FROM execution.trust_evaluations
        WHERE run_id = $1 AND trust_level = 'fully_trusted'`,
      [run],
    )
    const forged: Record<string, string> = {}
    forged['started, not attested'] = String((await startRun(world, setting)).run_id)
    const { result: low } = await world.send(setting.device, runStart({ version_id: setting.version }))
    const { result } = await world.send(
      setting.device,
      attestation(low, { gateway_verified: true, policy_passed: true }),
    )
    t.not(result.level, 'fully_trusted')
    forged['attested, and not at the top'] = result.run_id
    forged['not judged'] = await copyRun(world, run)
    forged['not verified by the gateway'] = await copyRun(world, run, { gateway_verified: false })
    forged['not signed'] = await copyRun(world, run, { signed: false })
    forged['below the top'] = await copyRun(world, run)
    forged['without an attestation'] = await copyRun(world, run)
    forged['on another run’s attestation'] = await copyRun(world, run)
    forged['no run at all'] = newUuidV7()
    await evaluate(world, forged['not verified by the gateway'] as string)
    await evaluate(world, forged['not signed'] as string)
    await evaluate(world, forged['below the top'] as string, { without: ['policy_passed'] })
    await evaluate(world, forged['without an attestation'] as string, { attestation: null })
    await evaluate(world, forged['on another run’s attestation'] as string, { attestation: honest.attestation })
    for (const [what, source] of Object.entries(forged)) {
      await addJob(world, executionRule, source, setting.lenser)
      t.deepEqual(await apply(executionRule, source), [{ stands: { minted: 0, reversed: 0 } }], what)
      const byHand = () =>
        world.owner.query(
          'INSERT INTO xp.ledger (lenser_id, rule, source_id, amount, evaluation_id) VALUES ($1, $2, $3, 50, $4)',
          [setting.lenser, executionRule, source, honest.evaluation],
        )
      await refused(t, byHand, '23514', what)
    }
    t.is((await work(world)).failed, 0)
    for (const [what, source] of Object.entries(forged)) t.deepEqual(await ledgerOf(world, source), [], what)
    t.deepEqual(await amountsOf(world, run), [50], 'the honest one')
  },
)

test.serial(
  'AC-4: nobody gives an account what another earned, and nothing is taken back but what was given',
  async (t) => {
    const { run } = await trustedRun(world)
    const stranger = await world.addLenser()
    await addJob(world, executionRule, run, stranger)
    const taken = await copyRun(world, run)
    await evaluate(world, taken)
    await work(world)
    t.is(await sumOf(stranger), 0, 'a job’s account is not whose it is')
    const row = await world.one<Record<string, string>>('SELECT * FROM xp.ledger WHERE source_id = $1', [taken])
    const insert = (more: Record<string, unknown>) => world.insert('xp.ledger', more)
    const { lenser_id, rule, source_id, evaluation_id, id } = row
    await refused(
      t,
      () => insert({ lenser_id: stranger, rule, source_id: run, amount: 50, evaluation_id }),
      '23514',
      'another account',
    )
    await refused(t, () => insert({ lenser_id, rule, source_id, amount: 50, evaluation_id }), '23505', 'twice')
    await refused(t, () => insert({ lenser_id, rule, source_id, amount: -50 }), '23514', 'a fine')
    const back = { lenser_id, rule, source_id, amount: -50, reverses: id }
    for (const [change, state] of [
      [{ amount: -49 }, '23503'],
      [{ amount: 50 }, '23514'],
      [{ lenser_id: stranger }, '23503'],
      [{ source_id: run }, '23503'],
      [{ rule: 'DEVICE_VERIFIED' }, '23503'],
    ] as const) {
      await refused(t, () => insert({ ...back, ...change }), state, JSON.stringify(change))
    }
    await insert(back)
    await refused(t, () => insert(back), '23505', 'taken back twice')
  },
)

test.serial(
  'rule 14: XP comes with the first rise to the top, a compromise takes it back once, and rising again gives nothing',
  async (t) => {
    const { run, setting } = await trustedRun(world)
    await work(world)
    t.deepEqual(await amountsOf(world, run), [50])
    const stored = (await world.owner.query('SELECT * FROM execution.attestations WHERE run_id = $1', [run])).rows
    await world.owner.query(
      `INSERT INTO devices.compromises (device_id, kind, since, reason) VALUES ($1, 'revoked', now() - interval '1 hour', 'stolen')`,
      [setting.device.id],
    )
    await world.evaluator.query('SELECT execution.fn_queue_compromised(1000)')
    await world.evaluator.query('SELECT execution.fn_reevaluate_due(1000)')
    await work(world)
    t.deepEqual(await amountsOf(world, run), [50, -50])
    const { rows } = await world.owner.query(
      `SELECT e.trust_level, e.reason FROM xp.ledger l JOIN execution.trust_evaluations e ON e.id = l.evaluation_id
        WHERE l.source_id = $1 ORDER BY l.id`,
      [run],
    )
    t.deepEqual(rows, [
      { trust_level: 'fully_trusted', reason: null },
      { trust_level: 'agent_verified', reason: 'device_trusted' },
    ])
    t.deepEqual((await world.owner.query('SELECT * FROM execution.attestations WHERE run_id = $1', [run])).rows, stored)
    for (const without of [[], ['device_trusted'], [], ['policy_passed']]) {
      await evaluate(world, run, { without })
      await addJob(world, executionRule, run, setting.lenser)
      await work(world)
    }
    t.deepEqual(await amountsOf(world, run), [50, -50])
  },
)

test.serial(
  'rule 14: rises and falls judged in any order of working, however often, end in the same ledger',
  async (t) => {
    const { run: original, setting } = await trustedRun(world)
    await work(world)
    const histories = fc.array(fc.boolean(), { minLength: 1, maxLength: 5 })
    const pauses = fc.array(fc.nat({ max: 3 }), { minLength: 5, maxLength: 5 })
    await t.notThrowsAsync(
      fc.assert(
        fc.asyncProperty(histories, pauses, fc.boolean(), async (history, worked, backwards) => {
          const run = await copyRun(world, original)
          for (const [n, isTop] of history.entries()) {
            await evaluate(world, run, { without: isTop ? [] : ['device_trusted'] })
            for (let times = worked[n] as number; times > 1; times -= 1) {
              await addJob(world, executionRule, run, setting.lenser)
            }
            if (backwards) {
              await world.owner.query(
                `UPDATE xp.jobs SET due_at = now() - id * interval '1 microsecond' WHERE source_id = $1 AND state = 'pending'`,
                [run],
              )
            }
            // Sometimes not at all, sometimes one of them, sometimes all.
            if (worked[n] !== 0) await work(world, worked[n] === 1 ? 1 : 1000)
          }
          await work(world)
          const rose = history.indexOf(true)
          const expected = rose < 0 ? [] : history.indexOf(false, rose) < 0 ? [50] : [50, -50]
          const found = await amountsOf(world, run)
          if (found.join() !== expected.join()) throw new Error(`${history} gave ${found}`)
        }),
        { numRuns: 60, seed: 20261121 },
      ),
    )
  },
)

/** An account's counts as anybody can count them: by the last evaluation of each of its submissions. */
const recount = async (lenser: string) => {
  const { rows } = await world.owner.query<{ level: string; n: number }>(
    `SELECT l.level, count(*)::int AS n
       FROM battles.submissions s
       JOIN LATERAL (SELECT e.trust_level AS level FROM execution.trust_evaluations e
                      WHERE e.submission_id = s.id ORDER BY e.id DESC LIMIT 1) l ON true
      WHERE s.submitter_lenser_id = $1 GROUP BY 1`,
    [lenser],
  )
  const counts = Object.fromEntries(executionLevels.map((level) => [level, 0]))
  for (const { level, n } of rows) counts[level] = n
  return { ...counts, score: (counts.execution_verified ?? 0) + (counts.fully_trusted ?? 0) }
}
const scoreOf = async (lenser: string) => {
  const row = await world.one<Record<string, unknown> | undefined>(
    'SELECT * FROM reputation.lenser_scores WHERE lenser_id = $1',
    [lenser],
  )
  const { lenser_id: _, computed_at: __, ...counts } = row ?? {}
  return counts
}
/** What keeps a run at each level, the lowest first. */
const withouts: readonly (readonly string[])[] = [
  ['requester_is_submitter'],
  ['contender_is_agent'],
  ['attested'],
  ['runner_named'],
  ['signed'],
  ['policy_passed'],
  [],
]

test.serial(
  'AC-5: reputation counts each submission at the level that the server derived last, and nothing else',
  async (t) => {
    const setting = await addSetting(world)
    const submission = await addSubmission(world, setting.lenser)
    // The flags that a tampered client sends are in the signed body, and nobody reads them.
    const start = runStart({ submission_id: submission, runner_id: setting.runner })
    await world.send(setting.device, beatOf(setting))
    const { result: permit } = await world.send(setting.device, start)
    const claims = { signed: true, gateway_verified: true, device_trusted: true, policy_passed: true }
    const { result } = await world.send(setting.device, attestation(permit, claims))
    t.is(result.level, 'execution_verified')
    await work(world)
    t.deepEqual(await scoreOf(setting.lenser), { ...(await recount(setting.lenser)), execution_verified: 1, score: 1 })

    const runs = [String(permit.run_id)]
    for (const _ of withouts.slice(1)) runs.push((await submitAndStart(world, setting)).run)
    for (const [n, run] of runs.entries()) await evaluate(world, run, { without: withouts[n] as string[] })
    await work(world)
    const each = Object.fromEntries(executionLevels.map((level) => [level, 1]))
    t.deepEqual(await scoreOf(setting.lenser), { ...each, score: 2 }, 'one of each level')
    for (const [n, run] of runs.entries())
      await evaluate(world, run, { without: withouts[n === 6 ? 2 : 6] as string[] })
    await work(world)
    t.deepEqual(await scoreOf(setting.lenser), { ...(await recount(setting.lenser)), fully_trusted: 6, score: 6 })
    const stands = await scoreOf(setting.lenser)
    await addJob(world, 'REPUTATION', submission, setting.lenser)
    await addJob(world, 'REPUTATION', newUuidV7(), setting.lenser)
    t.is((await work(world)).failed, 0)
    t.deepEqual(await scoreOf(setting.lenser), stands, 'counting again changes nothing')
  },
)

test.serial('AC-5: a submission that no run was judged for counts nowhere', async (t) => {
  const lenser = await world.addLenser()
  const submission = await addSubmission(world, lenser)
  for (const task of ['REPUTATION', 'BATTLE_SUBMISSION_COMPLETED']) await addJob(world, task, submission, lenser)
  t.is((await work(world)).failed, 0)
  t.deepEqual([await scoreOf(lenser), await sumOf(lenser)], [{}, 0])
})

test.serial(
  'AC-5: whatever levels follow each other and whenever it is counted, the counts are the last levels’',
  async (t) => {
    const setting = await addSetting(world)
    const runs: string[] = []
    for (let n = 0; n < 4; n += 1) runs.push((await submitAndStart(world, setting)).run)
    const steps = fc.array(fc.record({ run: fc.nat(3), level: fc.nat(6), worked: fc.nat(3) }), {
      minLength: 1,
      maxLength: 8,
    })
    await t.notThrowsAsync(
      fc.assert(
        fc.asyncProperty(steps, async (taken) => {
          for (const { run, level, worked } of taken) {
            await evaluate(world, runs[run] as string, { without: withouts[level] as string[] })
            if (worked > 0) await work(world, worked)
          }
          await work(world)
          const [found, expected] = [await scoreOf(setting.lenser), await recount(setting.lenser)]
          return Object.entries(expected).every(([name, count]) => found[name] === count)
        }),
        { numRuns: 40, seed: 20261121 },
      ),
    )
  },
)

test.serial('the leaderboard goes by score, and a tie by what is fully trusted', async (t) => {
  const lensers: string[] = []
  for (const levels of [[5], [5, 5], [6, 5], [6], [6, 4, 4], [5, 6]]) {
    const setting = await addSetting(world)
    lensers.push(setting.lenser)
    for (const level of levels) {
      const { run } = await submitAndStart(world, setting)
      await evaluate(world, run, { without: withouts[level] as string[] })
    }
  }
  await work(world)
  const rows = await asRole<{ lenser_id: string; rank: string; score: number; fully_trusted: number }>(
    world,
    { role: 'service_role' },
    'SELECT * FROM reputation.fn_leaderboard(1000)',
  )
  const mine = rows.filter(({ lenser_id }) => lensers.includes(lenser_id))
  t.deepEqual(
    mine.map(({ score, fully_trusted }) => [score, fully_trusted]),
    [
      [2, 1],
      [2, 1],
      [2, 0],
      [1, 1],
      [1, 1],
      [1, 0],
    ],
  )
  t.is(mine[0]?.rank, mine[1]?.rank as string)
  t.true(Number(mine[2]?.rank) > Number(mine[1]?.rank))
  t.is((await asRole(world, { role: 'service_role' }, 'SELECT * FROM reputation.fn_leaderboard(2)')).length, 2)
})

test.serial('an owner sees their own XP and score; nobody sees another’s, and nobody writes either', async (t) => {
  const [mine, other] = [newUuidV7(), newUuidV7()]
  const lenser = await world.addLenser(mine)
  await world.addLenser(other)
  const device = await world.addDevice(lenser)
  const submission = await addSubmission(world, lenser)
  await world.send(device, runStart({ submission_id: submission }))
  await work(world)
  const see = (user: string, table: string) => asRole(world, { role: 'authenticated', user }, `SELECT * FROM ${table}`)
  t.is((await see(mine, 'xp.ledger')).length, 3, 'registered, verified, submitted')
  t.is((await see(mine, 'reputation.lenser_scores')).length, 1)
  for (const table of ['xp.ledger', 'reputation.lenser_scores']) t.deepEqual(await see(other, table), [], table)
  const roles = ['anon', 'authenticated', 'service_role', 'ltg_trust_evaluator', 'ltg_registrar', 'ltg_verifier']
  for (const role of roles) {
    for (const table of [
      'xp.rules',
      'xp.jobs',
      'reputation.submission_levels',
      'xp.ledger',
      'reputation.lenser_scores',
    ]) {
      const isReadable = role === 'authenticated' && ['xp.ledger', 'reputation.lenser_scores'].includes(table)
      const as = (text: string) => () => asRole(world, { role, user: mine }, text)
      if (!isReadable) await refused(t, as(`SELECT FROM ${table}`), '42501', `${role} reads ${table}`)
      for (const text of [`INSERT INTO ${table} DEFAULT VALUES`, `DELETE FROM ${table}`, `TRUNCATE ${table}`]) {
        await refused(t, as(text), '42501', `${role}: ${text}`)
      }
    }
    const calls: Record<string, string> = {
      'xp.apply': `xp.apply('${executionRule}', uuidv7())`,
      'xp.fn_work_jobs': 'xp.fn_work_jobs(1)',
      'xp.fn_jobs_overview': 'xp.fn_jobs_overview()',
      'xp.fn_jobs_retry': 'xp.fn_jobs_retry(1)',
      'xp.fn_mint': `xp.fn_mint(ARRAY['${executionRule}'], ARRAY[uuidv7()])`,
      'xp.fn_settle': `xp.fn_settle(ARRAY['${executionRule}'], ARRAY[uuidv7()])`,
      'reputation.fn_add': `reputation.fn_add(uuidv7(), 'fully_trusted', 1)`,
      'reputation.fn_count_submission': 'reputation.fn_count_submission(uuidv7())',
    }
    for (const [name, text] of Object.entries(calls)) {
      const may =
        (role === 'service_role' && ['xp.apply', 'xp.fn_jobs_overview', 'xp.fn_jobs_retry'].includes(name)) ||
        (role === 'ltg_trust_evaluator' && name === 'xp.fn_work_jobs')
      const attempt = () => asRole(world, { role, user: mine }, `SELECT ${text}`)
      if (may) await t.notThrowsAsync(attempt, `${role} ${name}`)
      else await refused(t, attempt, '42501', `${role} ${name}`)
    }
  }
})

test.serial('the counts of a score are the contract’s levels, the tasks of jobs the rules there are', async (t) => {
  const { rows } = await world.owner.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'reputation.lenser_scores'::regclass AND attnum > 0 ORDER BY attnum`,
  )
  t.deepEqual(
    rows.map(({ name }) => name).filter((name) => !['lenser_id', 'score', 'computed_at'].includes(name)),
    [...executionLevels],
  )
  const rules = await world.owner.query<{ code: string }>('SELECT code FROM xp.rules')
  for (const { code } of rules.rows) {
    await t.notThrowsAsync(apply(code, newUuidV7()), code)
    await t.notThrowsAsync(addJob(world, code, newUuidV7(), newUuidV7()), code)
  }
  await refused(t, () => apply('ANOTHER', newUuidV7()), '22023')
})
