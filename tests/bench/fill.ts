import type { Pool } from '@lenserfight/db'

/** How much history a database is given. */
export interface History {
  /** Attested runs, over the last 30 days. */
  readonly runs: number
  /** Envelopes of the last half hour, whose claims and counters are still kept. */
  readonly recent: number
}

/** How rows of a table are multiplied: which template rows, what is joined to them, what is not copied. */
interface Copy {
  readonly table: string
  /** `FROM` after the template `t`: what gives one row for each copy. */
  readonly from: string
  /** Expressions of columns that are not the template's. */
  readonly set: Readonly<Record<string, string>>
}

const copies = (recent: number): readonly Copy[] => {
  const perRun = 'JOIN bench.copies c ON c.run_id ='
  const half = `${Math.ceil(recent / 2)}`
  return [
    {
      table: 'execution.runs',
      from: `${perRun} t.id`,
      set: { id: 'c.new_run', op_id: 'c.start_op', started_at: 'c.moment', issued_at: 'c.moment' },
    },
    {
      table: 'agents.policy_evaluations',
      from: `${perRun} t.run_id`,
      set: {
        run_id: 'c.new_run',
        asked_at: 'c.moment',
        covered_until: `c.moment + interval '1 minute'`,
        evaluated_at: 'c.moment',
      },
    },
    {
      table: 'execution.attestations',
      from: `${perRun} t.run_id`,
      set: {
        ...{ id: 'c.new_attestation', run_id: 'c.new_run', op_id: 'c.attest_op' },
        ...{ started_at: 'c.moment', ended_at: 'c.moment', stored_at: 'c.moment', recorded_at: 'c.moment' },
      },
    },
    {
      table: 'execution.trust_evaluations',
      from: `${perRun} t.run_id`,
      set: {
        run_id: 'c.new_run',
        attestation_id: 'CASE WHEN t.attestation_id IS NOT NULL THEN c.new_attestation END',
        evaluated_at: 'c.moment',
      },
    },
    {
      table: 'devices.operations',
      from: `${perRun} (t.result ->> 'run_id')::uuid`,
      set: {
        op_id: `CASE t.kind WHEN 'attestation' THEN c.attest_op ELSE c.start_op END`,
        committed_at: 'c.moment',
      },
    },
    {
      table: 'devices.envelope_claims',
      from: `CROSS JOIN generate_series(1, ${half} / (SELECT count(DISTINCT kid) FROM devices.envelope_claims)) n (n)`,
      set: {
        nonce: `left(translate(encode(uuid_send(gen_random_uuid()), 'base64'), '+/=', '-_'), 22)`,
        iat: `t.iat - (n.n % 1800)`,
        seq: '-n.n',
      },
    },
    {
      table: 'devices.counters',
      from: `CROSS JOIN generate_series(1, ${half} / (SELECT count(DISTINCT device_id) FROM devices.counters)) n (n)`,
      set: { counter: 't.counter - n.n * 1000000', stored_at: `t.stored_at - make_interval(secs => n.n % 1800)` },
    },
  ]
}

/** Of claims and counters, those of a run's start and attestation are the templates: two of each device. */
const templates: Readonly<Record<string, string>> = {
  'devices.envelope_claims': `t.kind IN ('run_start', 'attestation')`,
  'devices.counters': `t.counter > (SELECT min(f.counter) FROM devices.counters f WHERE f.device_id = t.device_id)`,
}

const columnsOf = async (owner: Pool, table: string): Promise<string[]> => {
  const { rows } = await owner.query(
    `SELECT attname AS name FROM pg_attribute
      WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' AND attgenerated = ''`,
    [table],
  )
  return rows.map(({ name }: { name: string }) => name)
}

const multiply = async (owner: Pool, { table, from, set }: Copy): Promise<void> => {
  const columns = await columnsOf(owner, table)
  const values = columns.map((name) => set[name] ?? `t.${name}`)
  const client = await owner.connect()
  try {
    await client.query('BEGIN')
    // Rows of rows that were checked: neither triggers nor foreign keys are asked again.
    await client.query(`SET LOCAL session_replication_role = replica`)
    await client.query(
      `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${values.join(', ')} FROM ${table} t ${from}
        WHERE ${templates[table] ?? 'true'}`,
    )
    await client.query('COMMIT')
  } finally {
    client.release()
  }
}

/** The check that a level is what its facts say: it costs more than all the rest of the filling, and copies are right. */
const withoutLevelCheck = async (owner: Pool, work: () => Promise<void>): Promise<void> => {
  const table = 'execution.trust_evaluations'
  const { rows } = await owner.query(
    `SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
      WHERE conrelid = $1::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%fn_trust_level%'`,
    [table],
  )
  const [check] = rows as { name: string; definition: string }[]
  if (check === undefined) throw new Error('the check of levels is not there')
  await owner.query(`ALTER TABLE ${table} DROP CONSTRAINT ${check.name}`)
  await work()
  await owner.query(`ALTER TABLE ${table} ADD CONSTRAINT ${check.name} ${check.definition} NOT VALID`)
}

/**
 * Gives a database the history of runs like those that are there, of which each must be attested: copies with other ids
 * and times. What is measured on it afterwards is durable again; the filling is not.
 */
export const fill = async (owner: Pool, { runs, recent }: History): Promise<void> => {
  await owner.query('CREATE SCHEMA bench')
  await owner.query(
    `CREATE TABLE bench.copies AS
     SELECT s.run_id, s.moment, uuidv7(s.moment - now()) AS new_run, uuidv7(s.moment - now()) AS new_attestation,
            uuidv7(s.moment - now()) AS start_op, uuidv7(s.moment - now()) AS attest_op
       FROM (SELECT a.run_id, now() - interval '1 hour' - interval '30 days' * n / $1::float AS moment
               FROM generate_series($1::integer, 1, -1) n
               JOIN (SELECT run_id, row_number() OVER () - 1 AS place, count(*) OVER () AS many
                       FROM execution.attestations) a ON a.place = n % a.many) s`,
    [runs],
  )
  await owner.query('CREATE INDEX ON bench.copies (run_id)')
  await owner.query('ANALYZE bench.copies')
  await withoutLevelCheck(owner, async () => {
    const left = [...copies(recent)]
    const lane = async (): Promise<void> => {
      for (let copy = left.shift(); copy !== undefined; copy = left.shift()) await multiply(owner, copy)
    }
    await Promise.all([lane(), lane()])
  })
  await owner.query('DROP SCHEMA bench CASCADE')
}
