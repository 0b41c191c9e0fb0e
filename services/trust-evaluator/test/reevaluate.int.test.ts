import { setTimeout as sleep } from 'node:timers/promises'
import { createPool, type Pool } from '@lenserfight/db'
import { createLogger } from '@lenserfight/runtime'
import test, { type ExecutionContext } from 'ava'
import { createStore, type EvaluatorStore } from '../src/commit.ts'
import { startReevaluation } from '../src/reevaluate.ts'
import { addSetting, attestation, beatOf, ranAt, runAndAttest, runStart } from './_bodies.ts'
import { createWorld, type World } from './_world.ts'

// One after another: each has the database's levels and what it takes to itself.
let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const silent = createLogger({ service: 'trust-evaluator', level: 'silent' })
const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  for (const end = Date.now() + 60_000; !(await holds()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
  }
}
const levelOf = async (run: unknown): Promise<string> =>
  (
    await world.one<{ trust_level: string }>(
      'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
      [run],
    )
  ).trust_level
const haveLevel = async (runs: readonly unknown[], level: string): Promise<boolean> =>
  (await Promise.all(runs.map(levelOf))).every((each) => each === level)

/** The evaluator's own pool, closed with the test. */
const newPool = (t: ExecutionContext, statementTimeoutMs = 30_000): Pool => {
  const pool = createPool({ ...world.database.as('ltg_trust_evaluator'), max: 2, logger: silent, statementTimeoutMs })
  t.teardown(() => pool.end())
  return pool
}

/** Runs that are due: their heartbeat arrives after what they attest. */
const dueRuns = async (count: number): Promise<string[]> => {
  const setting = await addSetting(world)
  const { device, runner, version } = setting
  const now = Date.now()
  const runs: string[] = []
  for (let n = 0; n < count; n += 1) {
    const { result } = await world.send(device, runStart({ runner_id: runner, version_id: version }))
    await world.send(device, attestation(result, ranAt(now)), { stored: now })
    runs.push(result.run_id)
  }
  await world.send(device, beatOf(setting), { stored: now - 1 })
  return runs
}

test.serial('rule 15: what is due is judged by the loop, which outlives a failing database', async (t) => {
  const runs = await dueRuns(1)
  const lines: { event?: string }[] = []
  const logger = createLogger({
    service: 'trust-evaluator',
    level: 'info',
    destination: { write: (line: string) => void lines.push(JSON.parse(line)) },
  })
  const giveBack = await world.takeAway()
  const store = createStore(newPool(t))
  let tries = 0
  const queueCompromised = (limit: number): Promise<number> => {
    tries += 1
    return store.queueCompromised(limit)
  }
  const loop = startReevaluation({ store: { ...store, queueCompromised }, everyMs: 20, logger })
  try {
    await until('it failed twice', async () => tries > 2)
    t.like(lines[0], { level: 'warn', event: 'reevaluation_failed' })
    t.false(await haveLevel(runs, 'fully_trusted'))
  } finally {
    await giveBack()
  }
  await until('it is judged', () => haveLevel(runs, 'fully_trusted'))
  await loop.stop()
  t.is(loop.figures().judged, 1)
  t.is(lines.length, 1, 'told once')
})

test.serial('rule 12: what was declared void is queued in turns with what a compromise concerns', async (t) => {
  const [stolen, honest] = [await addSetting(world), await addSetting(world)]
  const attested: string[] = []
  const attest = async (setting: typeof stolen) =>
    attested.push((await runAndAttest(world, setting)).result.run_id as string)
  for (let n = 0; n < 5; n += 1) await attest(stolen)
  const { since } = await world.one<{ since: Date }>('SELECT clock_timestamp() AS since')
  for (let n = 0; n < 3; n += 1) await attest(honest)
  t.true(await haveLevel(attested, 'fully_trusted'))
  await world.owner.query(
    `INSERT INTO devices.compromises (device_id, kind, since, reason) VALUES ($1, 'revoked', now() - interval '1 hour', 'stolen')`,
    [stolen.device.id],
  )
  await world.owner.query(`SELECT devices.fn_invalidate_claims($1, 'a verifier that lied')`, [since])

  const calls: string[] = []
  const store = createStore(newPool(t))
  const noted =
    (name: string, queue: EvaluatorStore['queueCompromised']): EvaluatorStore['queueCompromised'] =>
    async (limit) => {
      const count = await queue(limit)
      calls.push(`${name} ${count}`)
      return count
    }
  const loop = startReevaluation({
    store: {
      queueCompromised: noted('compromised', store.queueCompromised),
      queueInvalidated: noted('invalidated', store.queueInvalidated),
      reevaluate: store.reevaluate,
    },
    ...{ everyMs: 60_000, perCall: 2, logger: silent },
  })
  await until('all are judged', async () =>
    (await Promise.all(attested.map(levelOf))).every((level) => level !== 'fully_trusted'),
  )
  await until('both are done', async () => calls.length >= 7)
  await loop.stop()
  // The end of each counts as one.
  const turns = ['compromised 2', 'invalidated 2', 'compromised 2', 'invalidated 2', 'compromised 2', 'invalidated 0']
  t.deepEqual(calls, [...turns, 'compromised 0'])
})

test.serial('rule 15: where those due longest are too much at once, fewer are judged', async (t) => {
  const runs = await dueRuns(3)
  await world.owner.query(
    `CREATE FUNCTION public.fn_slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.55); RETURN NEW; END';
     CREATE TRIGGER slow BEFORE INSERT ON execution.trust_evaluations FOR EACH ROW EXECUTE FUNCTION public.fn_slow()`,
  )
  // Time for two and not for three.
  const store = createStore(newPool(t, 1500))
  const asked: { limit: number; isDone: boolean }[] = []
  const reevaluate = async (limit: number): Promise<number> => {
    const asking = { limit, isDone: false }
    asked.push(asking)
    const count = await store.reevaluate(limit)
    asking.isDone = true
    return count
  }
  const loop = startReevaluation({ store: { ...store, reevaluate }, everyMs: 5, perCall: 4, logger: silent })
  await until('all are judged', () => haveLevel(runs, 'fully_trusted'))
  await loop.stop()
  t.deepEqual(asked[0], { limit: 4, isDone: false })
  for (const [n, { limit }] of asked.slice(1).entries()) {
    const before = asked[n]
    t.is(limit, before?.isDone ? Math.min(before.limit * 2, 4) : Math.ceil((before?.limit ?? 0) / 2))
  }
})
