import { newUuidV7 } from '@lenserfight/envelope'
import { addSetting, addSubmission, runAndAttest, runStart, type Setting } from '../_bodies.ts'
import type { World } from '../_world.ts'

export const executionRule = 'VERIFIED_LOCAL_EXECUTION_COMPLETED'

export interface Worked {
  readonly done: number
  readonly failed: number
  readonly dead: number
  readonly failures: readonly Record<string, unknown>[]
}

/** Works jobs that are due, as the evaluator does, until none is left or one fails. */
export const work = async (world: World, limit = 1000): Promise<Worked> => {
  const { rows } = await world.evaluator.query('SELECT * FROM xp.fn_work_jobs($1)', [limit])
  return rows[0] as Worked
}

/** What stands in the ledger for a source, in order: rule and amount. */
export const ledgerOf = async (world: World, source: string): Promise<[string, number][]> => {
  const { rows } = await world.owner.query('SELECT rule, amount FROM xp.ledger WHERE source_id = $1 ORDER BY id', [
    source,
  ])
  return rows.map(({ rule, amount }) => [rule, amount])
}

/** The amounts given and taken back for a run. */
export const amountsOf = async (world: World, run: string): Promise<number[]> =>
  (await ledgerOf(world, run)).map(([, amount]) => amount)

export const addJob = async (world: World, task: string, source: string, lenser: string): Promise<void> => {
  await world.owner.query('INSERT INTO xp.jobs (task, source_id, lenser_id) VALUES ($1, $2, $3)', [
    task,
    source,
    lenser,
  ])
}

/** A run of a new account that is fully trusted; `settled` once its account's jobs are worked. */
export const trustedRun = async (world: World): Promise<{ run: string; setting: Setting }> => {
  const setting = await addSetting(world)
  const { result } = await runAndAttest(world, setting)
  if (result?.level !== 'fully_trusted') throw new TypeError(`not fully trusted: ${result?.reason}`)
  return { run: result.run_id, setting }
}

/** The same run and attestation once more under other ids, judged by nobody yet. `more` changes the attestation. */
export const copyRun = async (world: World, run: string, more: Record<string, unknown> = {}): Promise<string> => {
  const id = newUuidV7()
  await world.owner.query(
    `WITH run AS (
       INSERT INTO execution.runs
       SELECT (jsonb_populate_record(r, jsonb_build_object('id', $2::uuid, 'op_id', uuidv7()))).*
         FROM execution.runs r WHERE r.id = $1 RETURNING id
     )
     INSERT INTO execution.attestations
     SELECT (jsonb_populate_record(a, $3::jsonb || jsonb_build_object('id', uuidv7(), 'run_id', run.id))).*
       FROM execution.attestations a, run WHERE a.run_id = $1`,
    [run, id, more],
  )
  return id
}

/** The facts of the top, with these changed. */
const topFacts = `(SELECT jsonb_object_agg(f.fact, true) FROM execution.fn_ladder() l, unnest(l.facts) AS f (fact))`

/**
 * An evaluation past every judge, as only a superuser writes one: at the top, but for the facts that do not hold, on the
 * run's own attestation or what is given for it.
 */
export const evaluate = async (
  world: World,
  run: string,
  { without = [], attestation }: { without?: readonly string[]; attestation?: string | null } = {},
): Promise<void> => {
  await world.owner.query(
    `INSERT INTO execution.trust_evaluations (run_id, lenser_id, submission_id, attestation_id, trust_level, facts)
     SELECT r.id, r.requester_lenser_id, l.submission_id,
            CASE WHEN $3 THEN $4::uuid ELSE a.id END, execution.fn_trust_level(f.facts), f.facts
       FROM execution.runs r
       LEFT JOIN execution.links l ON l.run_id = r.id
       LEFT JOIN execution.attestations a ON a.run_id = r.id
      CROSS JOIN LATERAL (SELECT ${topFacts} - $2::text[] AS facts) f
      WHERE r.id = $1`,
    [run, without, attestation !== undefined, attestation ?? null],
  )
}

/** A submission of the setting's account and the run that was started for it; evaluated, and not attested. */
export const submitAndStart = async (world: World, setting: Setting): Promise<{ submission: string; run: string }> => {
  const submission = await addSubmission(world, setting.lenser)
  const body = runStart({ submission_id: submission, runner_id: setting.runner, version_id: setting.version })
  const { result } = await world.send(setting.device, body)
  return { submission, run: result.run_id }
}

/** Runs a statement as a role, with a person's claims where one is named; rolled back unless it is told to stay. */
export const asRole = async <T = Record<string, unknown>>(
  world: World,
  { role, user, keep = false }: { role: string; user?: string; keep?: boolean },
  text: string,
  values: unknown[] = [],
): Promise<T[]> => {
  const client = await world.owner.connect()
  try {
    await client.query('BEGIN')
    if (user !== undefined) {
      await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: user })])
    }
    await client.query(`SET LOCAL ROLE ${role}`)
    const { rows } = await client.query(text, values)
    if (keep) await client.query('COMMIT')
    return rows as T[]
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
}
