import { createLogger } from '@lenserfight/runtime'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { createStore } from '../../src/commit.ts'
import { startXpWork } from '../../src/work-xp.ts'
import { addSetting, attestation, startRun } from '../_bodies.ts'
import { createWorld, type World } from '../_world.ts'
import { addJob, amountsOf, asRole, copyRun, evaluate, executionRule, ledgerOf, trustedRun, work } from './_xp.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const recorder = () => {
  const lines: Record<string, unknown>[] = []
  const destination = { write: (line: string) => lines.push(JSON.parse(line)) }
  return { lines, logger: createLogger({ service: 'trust-evaluator', level: 'info', destination }) }
}
const until = async (holds: () => Promise<boolean> | boolean): Promise<void> => {
  for (const end = Date.now() + 90_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error('waited 90 s')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
interface Job {
  readonly state: string
  readonly attempts: number
  readonly last_error: string | null
  /** Seconds from the last attempt to the next; null before the first. */
  readonly waits: number | null
}
const jobOf = (source: string, task = executionRule): Promise<Job> =>
  world.one<Job>(
    `SELECT state, attempts, last_error, extract(epoch FROM due_at - tried_at)::float AS waits
       FROM xp.jobs WHERE source_id = $1 AND task = $2`,
    [source, task],
  )
/** What is due later is due now. */
const letTimePass = () => world.owner.query(`UPDATE xp.jobs SET due_at = now() WHERE state = 'pending'`)
const asPlatform = async (text: string) =>
  (await asRole<Record<string, unknown>>(world, { role: 'service_role', keep: true }, `SELECT ${text} AS said`))[0]
    ?.said
/** From here on the ledger takes nothing for a run, until it is put right. */
const breakRule = async (run: string): Promise<() => Promise<void>> => {
  await world.owner.query(`ALTER TABLE xp.ledger ADD CONSTRAINT broken CHECK (source_id <> '${run}')`)
  return async () => void (await world.owner.query('ALTER TABLE xp.ledger DROP CONSTRAINT broken'))
}

test.serial(
  'mistake 7: a rule that fails leaves the trust write whole, is tried again ever later, and dies where it is seen',
  async (t) => {
    const { run: original, setting } = await trustedRun(world)
    await work(world)
    const [run, neighbour] = [await copyRun(world, original), await copyRun(world, original)]
    const repair = await breakRule(run)
    for (const one of [run, neighbour]) await evaluate(world, one)
    const evaluations = await world.owner.query('SELECT * FROM execution.trust_evaluations WHERE run_id = $1', [run])
    t.is(evaluations.rows[0]?.trust_level, 'fully_trusted')
    for (let attempt = 1; attempt < limits.xpAttempts; attempt += 1) {
      const worked = await work(world)
      t.like(worked, { done: attempt === 1 ? 1 : 0, failed: 1, dead: 0 })
      t.like(worked.failures[0], {
        task: executionRule,
        source: run,
        state: 'pending',
        attempts: attempt,
        sqlstate: '23514',
      })
      const job = await jobOf(run)
      t.like(job, { state: 'pending', attempts: attempt, last_error: '23514' })
      t.is(job.waits, Math.min(limits.xpRetryFloorSeconds * 2 ** (attempt - 1), limits.xpRetryCeilingSeconds))
      t.is((await work(world)).failed, 0, 'not before its time')
      t.like(await asPlatform('xp.fn_jobs_overview()'), { pending: 1, failing: 1, dead: 0, dead_jobs: [] })
      await letTimePass()
    }
    t.deepEqual(await amountsOf(world, neighbour), [50], 'its neighbour waits for nothing')
    const last = await work(world)
    t.like(last, { done: 0, failed: 0, dead: 1 })
    t.like(last.failures[0], { source: run, state: 'dead', attempts: limits.xpAttempts })
    await letTimePass()
    t.like(await work(world), { done: 0, failed: 0, dead: 0 }, 'it is not tried any more')
    const overview = (await asPlatform('xp.fn_jobs_overview()')) as { dead: number; dead_jobs: object[] }
    t.is(overview.dead, 1)
    t.like(overview.dead_jobs[0], {
      ...{ task: executionRule, source: run, lenser: setting.lenser, attempts: limits.xpAttempts, sqlstate: '23514' },
    })
    t.deepEqual(await amountsOf(world, run), [])
    t.deepEqual(
      (await world.owner.query('SELECT * FROM execution.trust_evaluations WHERE run_id = $1', [run])).rows,
      evaluations.rows,
    )
    // Put right, and tried again by the platform.
    await repair()
    t.is(await asPlatform('xp.fn_jobs_retry(10)'), 1)
    t.is(await asPlatform('xp.fn_jobs_retry(10)'), 0)
    t.like(await work(world), { done: 1, failed: 0, dead: 0 })
    t.deepEqual(await amountsOf(world, run), [50])
    t.like(await asPlatform('xp.fn_jobs_overview()'), { pending: 0, failing: 0, dead: 0 })
  },
)

test.serial(
  'mistake 7: what fails only at the end of a transaction fails its own job, and none of its neighbours’',
  async (t) => {
    const { run: original } = await trustedRun(world)
    await work(world)
    const [run, neighbour] = [await copyRun(world, original), await copyRun(world, original)]
    await world.owner.query(
      `CREATE FUNCTION xp.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;
     CREATE CONSTRAINT TRIGGER late AFTER INSERT ON xp.ledger DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW WHEN (NEW.source_id = '${run}') EXECUTE FUNCTION xp.fail()`,
    )
    for (const one of [run, neighbour]) await evaluate(world, one)
    t.like(await work(world), { done: 1, failed: 1, dead: 0 })
    t.deepEqual([await amountsOf(world, run), await amountsOf(world, neighbour)], [[], [50]])
    t.like(await jobOf(run), { state: 'pending', attempts: 1, last_error: '22012' })
    await world.owner.query('DROP FUNCTION xp.fail() CASCADE')
    await letTimePass()
    await work(world)
    t.deepEqual(await amountsOf(world, run), [50])
  },
)

test.serial(
  'mistake 7: an attestation is stored and judged whatever the rules are, and its job with it or not at all',
  async (t) => {
    const setting = await addSetting(world)
    const permit = await startRun(world, setting)
    const run = String(permit.run_id)
    await work(world)
    const text = await world.seal(setting.device, attestation(permit))
    await world.owner.query('ALTER TABLE xp.ledger ADD CONSTRAINT broken CHECK (false) NOT VALID')
    const client = await world.evaluator.connect()
    await client.query('BEGIN')
    await client.query('SELECT execution.fn_record_execution_attestation($1)', [[text]])
    await client.query('ROLLBACK')
    client.release()
    t.is(await jobOf(run), undefined as never)
    const [outcome] = await world.apply('attestation', [text])
    t.like(outcome, { ok: true })
    t.is(outcome?.result.level, 'fully_trusted')
    t.like(await work(world), { done: 0, failed: 1 })
    t.like(await jobOf(run), { state: 'pending', attempts: 1 })
    const trust = await world.owner.query('SELECT FROM execution.attestations WHERE run_id = $1 AND gateway_verified', [
      run,
    ])
    t.is(trust.rows.length, 1)
    await world.owner.query('ALTER TABLE xp.ledger DROP CONSTRAINT broken')
    await letTimePass()
    await work(world)
    t.deepEqual(await amountsOf(world, run), [50])
  },
)

test.serial('what is done is kept for a day, what is dead until somebody has it tried again', async (t) => {
  await world.owner.query(
    `INSERT INTO xp.jobs (task, source_id, lenser_id, state, ended_at)
     SELECT 'REPUTATION', uuidv7(), uuidv7(), s.state, now() - s.age
       FROM (VALUES ('done', interval '25 hours'), ('done', interval '23 hours'), ('dead', interval '1 year')) AS s (state, age)`,
  )
  await work(world)
  const { rows } = await world.owner.query(
    `SELECT state FROM xp.jobs WHERE ended_at < now() - interval '22 hours' ORDER BY state`,
  )
  t.deepEqual(rows, [{ state: 'dead' }, { state: 'done' }])
  await world.owner.query(`DELETE FROM xp.jobs`)
})

test.serial(
  'a worker killed before it commits gave nothing, and leaves all of it to another, who gives it once',
  async (t) => {
    const { run: original } = await trustedRun(world)
    await work(world)
    const runs: string[] = []
    for (let n = 0; n < 20; n += 1) runs.push(await copyRun(world, original))
    for (const run of runs) await evaluate(world, run)
    const dying = await world.evaluator.connect()
    dying.on('error', () => {})
    await dying.query('BEGIN')
    const { rows } = await dying.query('SELECT pg_backend_pid() AS pid, * FROM xp.fn_work_jobs(10)')
    t.like(rows[0], { done: 10, failed: 0 })
    t.like(await work(world), { done: 10, failed: 0 }, 'the others are nobody’s yet')
    t.like(await work(world), { done: 0, failed: 0 }, 'what another works is left to them')
    await world.owner.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
    await until(async () => (await work(world)).done === 10)
    dying.release(true)
    for (const run of runs) t.deepEqual(await amountsOf(world, run), [50])
  },
)

test.serial('two workers whose connections are cut again and again give everything once', async (t) => {
  const { run: original, setting } = await trustedRun(world)
  await work(world)
  const { lines, logger } = recorder()
  const pools = [1, 2].map(() => world.connect(world.database.as('ltg_trust_evaluator')))
  const loops = pools.map((pool) => startXpWork({ store: createStore(pool), everyMs: 20, logger }))
  const runs: string[] = []
  let isCutting = true
  const cutting = (async () => {
    while (isCutting) {
      await world.owner.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND usename = 'ltg_trust_evaluator' AND query LIKE '%fn_work_jobs%'`,
      )
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
  })()
  for (let n = 0; n < 60; n += 1) {
    const run = await copyRun(world, original)
    runs.push(run)
    await evaluate(world, run)
    if (n % 3 > 0) await evaluate(world, run, { without: ['device_trusted'] })
    if (n % 3 > 1) await evaluate(world, run)
    for (let more = n % 4; more > 0; more -= 1) await addJob(world, executionRule, run, setting.lenser)
  }
  isCutting = false
  await cutting
  await until(async () => {
    const { n } = await world.one<{ n: number }>(`SELECT count(*)::int AS n FROM xp.jobs WHERE state = 'pending'`)
    return n === 0
  })
  await Promise.all(loops.map(({ stop }) => stop()))
  await Promise.all(pools.map((pool) => pool.end()))
  for (const [n, run] of runs.entries())
    t.deepEqual(await amountsOf(world, run), n % 3 > 0 ? [50, -50] : [50], `run ${n}`)
  const { n } = await world.one<{ n: number }>(`SELECT count(*)::int AS n FROM xp.jobs WHERE state = 'dead'`)
  t.is(n, 0)
  t.deepEqual(
    lines.filter(({ event }) => event !== 'xp_work_failed' && event !== 'db_connection_lost').map(({ event }) => event),
    [],
  )
})

test.serial(
  'the evaluator’s loop: one line for a row of failures and one for each job that dies, all of it counted',
  async (t) => {
    const { run: original } = await trustedRun(world)
    await work(world)
    const run = await copyRun(world, original)
    const repair = await breakRule(run)
    await evaluate(world, run)
    const { lines, logger } = recorder()
    const cut = world.connect(world.database.as('ltg_trust_evaluator'))
    t.teardown(() => cut.end())
    const store = createStore(cut)
    const giveBack = await world.takeAway()
    let tries = 0
    const workXp = async (limit: number) => {
      tries += 1
      await letTimePass()
      return store.workXp(limit)
    }
    const loop = startXpWork({ store: { workXp }, everyMs: 20, logger })
    try {
      await until(() => tries > 2)
    } finally {
      await giveBack()
    }
    await until(async () => (await jobOf(run)).state === 'dead')
    await until(() => loop.figures().xp.dead === 1)
    t.deepEqual(loop.figures(), { xp: { done: 0, failed: limits.xpAttempts, dead: 1 } })
    await repair()
    await asPlatform('xp.fn_jobs_retry(10)')
    await until(() => loop.figures().xp.done === 1)
    await loop.stop()
    t.deepEqual(loop.figures(), { xp: { done: 1, failed: limits.xpAttempts, dead: 1 } })
    t.deepEqual(
      lines.map(({ event, level, task, source, attempts, sqlstate }) => [
        event,
        level,
        task,
        source,
        attempts,
        sqlstate,
      ]),
      [
        ['xp_work_failed', 'warn', undefined, undefined, undefined, undefined],
        ['xp_job_failed', 'warn', executionRule, run, 1, '23514'],
        ['xp_job_dead', 'error', executionRule, run, limits.xpAttempts, '23514'],
      ],
    )
    t.deepEqual(await ledgerOf(world, run), [[executionRule, 50]])
  },
)
