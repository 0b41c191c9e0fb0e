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

/**
 * The trust model's table of required facts, read word by word and without the contract's: what each level at least needs. The
 * ladder may ask for more (a fresh heartbeat, an unchanged version), never for less.
 */
const literalReading = (f: Facts): ExecutionLevel => {
  const is = (...names: ExecutionFact[]): boolean => names.every((name) => f[name] === true)
  // unverified: "No attestation; or run not owned by submitter." account_verified: "Submitter owns the run."
  if (!is('requester_is_submitter')) return 'unverified'
  // "Run's contender is an ai_agent / ai_runner owned by submitter."
  if (!is('contender_is_agent') || !is('contender_owned')) return 'account_verified'
  // "Above, plus an attestation row where device_trusted = true."
  if (!is('attested') || !is('device_trusted')) return 'agent_verified'
  // "the attestation has a device_id AND the device_id is in runner_device_bindings(status='active') for the runner"
  if (!is('runner_named') || !is('binding_active')) return 'device_verified'
  // "signature verifies AND gateway_verified = true"
  if (!is('signed') || !is('gateway_verified')) return 'runner_verified'
  // "policy_passed = true AND non-null workflow_hash AND non-null lens_hash"
  return is('policy_passed', 'workflow_hash', 'lens_hash') ? 'fully_trusted' : 'execution_verified'
}

test('EA-5 WT-1 RH-4: of all combinations of facts none is above the literal reading of the trust model, and only what it asks besides is below', async (t) => {
  const cases = Array.from(
    { length: 2 ** allFacts.length },
    (_, bits): Facts => Object.fromEntries(allFacts.map((fact, n) => [fact, (bits & (1 << n)) !== 0])),
  )
  const judged = await judge(cases)
  const rank = (level: ExecutionLevel): number => executionLevels.indexOf(level)
  const isBesides = ({ heartbeat_fresh, version_unchanged }: Facts): boolean => !(heartbeat_fresh && version_unchanged)
  const wrong = cases.filter((facts, n) => {
    const { level } = judged[n] as { level: ExecutionLevel }
    const literal = literalReading(facts)
    if (rank(level) > rank(literal)) return true
    // Lower only where a heartbeat or the version is what is missing, and then no lower than agent_verified.
    return rank(level) < rank(literal) && !(isBesides(facts) && level === 'agent_verified')
  })
  t.deepEqual(wrong, [])
  const top = cases.filter((_, n) => judged[n]?.level === 'fully_trusted')
  t.is(top.length, 1, 'there is one way to the top')
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
