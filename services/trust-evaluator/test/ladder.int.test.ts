import { type ExecutionFact, type ExecutionLevel, executionFacts, executionLevels } from '@lenserfight/schemas'
import test from 'ava'
import { createWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

type Facts = Partial<Record<ExecutionFact, unknown>>
const rungs = Object.entries(executionFacts) as [ExecutionLevel, readonly ExecutionFact[]][]
const allFacts = rungs.flatMap(([, facts]) => facts)

/** The contract read afresh: a level holds where its facts and those of all levels below do. */
const read = (facts: Facts): { level: ExecutionLevel; reason: ExecutionFact | null } => {
  const missing = allFacts.find((fact) => facts[fact] !== true)
  if (missing === undefined) return { level: 'fully_trusted', reason: null }
  const stop = rungs.findIndex(([, needs]) => needs.includes(missing))
  return { level: executionLevels[stop] as ExecutionLevel, reason: missing }
}
const judge = async (cases: readonly Facts[]) =>
  (
    await world.owner.query<{ level: ExecutionLevel; reason: ExecutionFact | null; ladder: unknown }>(
      `SELECT j.* FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS c (facts, n), execution.fn_judge(c.facts) j ORDER BY c.n`,
      [JSON.stringify(cases)],
    )
  ).rows

test('EA-5: SQL’s ladder is the contract’s, in its order', async (t) => {
  const { rows } = await world.owner.query('SELECT level, facts FROM execution.fn_ladder() ORDER BY step')
  t.deepEqual(
    rows,
    rungs.map(([level, facts]) => ({ level, facts: [...facts] })),
  )
  t.deepEqual(executionLevels.slice(1), rungs.map(([level]) => level) as never)
})

test('EA-5: every combination of facts gives the level that an independent reading gives, and no added fact lowers it', async (t) => {
  const cases = Array.from(
    { length: 2 ** allFacts.length },
    (_, bits): Facts => Object.fromEntries(allFacts.map((fact, n) => [fact, (bits & (1 << n)) !== 0])),
  )
  const judged = await judge(cases)
  const ranks = judged.map(({ level }) => executionLevels.indexOf(level))
  const wrong = cases.filter((facts, n) => {
    const { level, reason } = read(facts)
    return judged[n]?.level !== level || judged[n]?.reason !== reason
  })
  t.deepEqual(wrong, [])
  const lowered = cases.filter((_, bits) =>
    allFacts.some((_fact, n) => (ranks[bits | (1 << n)] as number) < (ranks[bits] as number)),
  )
  t.deepEqual(lowered, [])
  t.deepEqual(new Set(ranks), new Set(executionLevels.keys()), 'all seven levels are reached')
})

test('EA-3: a fact holds only as the JSON value true', async (t) => {
  const full: Facts = Object.fromEntries(allFacts.map((fact) => [fact, true]))
  const cases = allFacts.flatMap((fact) =>
    ['true', 1, null, {}, undefined].map((value) => ({ ...full, [fact]: value })),
  )
  for (const [n, { reason }] of (await judge(cases)).entries())
    t.is(reason, allFacts[Math.floor(n / 5)] as ExecutionFact)
})

test('a ladder tells step by step what is missing', async (t) => {
  const [judged] = await judge([{ requester_is_submitter: true, contender_owned: true, signed: true }])
  t.deepEqual(judged, {
    level: 'account_verified',
    reason: 'contender_is_agent',
    ladder: [
      { level: 'account_verified', reached: true, failing: [] },
      { level: 'agent_verified', reached: false, failing: ['contender_is_agent'] },
      {
        level: 'device_verified',
        reached: false,
        failing: ['attested', 'device_trusted', 'heartbeat_fresh', 'version_unchanged'],
      },
      { level: 'runner_verified', reached: false, failing: ['runner_named', 'binding_active'] },
      { level: 'execution_verified', reached: false, failing: ['gateway_verified'] },
      { level: 'fully_trusted', reached: false, failing: ['policy_passed', 'workflow_hash', 'lens_hash'] },
    ],
  })
})

test('EA-5: an evaluation that says more than its facts cannot be stored, by anybody', async (t) => {
  const error = await t.throwsAsync(
    world.owner.query(
      `INSERT INTO execution.trust_evaluations (run_id, lenser_id, trust_level, facts)
       VALUES (uuidv7(), uuidv7(), 'fully_trusted', '{"attested": true}')`,
    ),
  )
  t.is((error as Error & { code?: string }).code, '23514')
})
