import test from 'ava'
import fc from 'fast-check'
import type { PoolClient } from 'pg'
import { argumentsOf, callablesOf } from './_anything.ts'
import { useDatabase } from './_database.ts'
import { evidenceOf } from './_evidence.ts'
import { attestationOf, makeParty, type Party, permitOf } from './_scene.ts'

const world = useDatabase(test)

/** Runs statements as PostgREST would: a role that is nobody's login, and a token's claims; rolled back unless `keep`. */
const as = async <T>(
  role: string,
  claims: string | null,
  use: (client: PoolClient) => Promise<T>,
  keep = false,
): Promise<T> => {
  const client = await world().db.connect()
  try {
    await client.query('BEGIN')
    if (claims !== null) await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [claims])
    await client.query(`SET LOCAL ROLE ${role}`)
    return await use(client)
  } finally {
    await client.query(keep ? 'COMMIT' : 'ROLLBACK')
    client.release()
  }
}
const ofUser = ({ userId }: Party): string => JSON.stringify({ sub: userId, role: 'authenticated' })

/** An account with a run, its attestation, a submission, XP and all else that a table may hold. */
const makeVictim = async (): Promise<{ party: Party; ids: string[] }> => {
  const { db, road, roles } = world()
  const party = await makeParty(db)
  const permit = await permitOf(road, party)
  await road.say(party.device, {
    kind: 'tool_invocation',
    run_id: permit.run_id,
    seq: 1,
    tool: 'shell',
    arguments_hash: 'A'.repeat(43),
  })
  await road.say(party.device, attestationOf(permit, { tool_invocations: 1 }))
  await db.query('INSERT INTO agents.workspace_settings (lenser_id) VALUES ($1)', [party.lenser])
  await db.query('INSERT INTO agents.quotas (lenser_id) VALUES ($1)', [party.lenser])
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    await roles.pool('ltg_trust_evaluator').query('SELECT xp.fn_work_jobs(1000)')
    const { rowCount } = await db.query(`SELECT FROM xp.jobs WHERE lenser_id = $1 AND state = 'pending'`, [
      party.lenser,
    ])
    if (rowCount === 0) break
  }
  const { lenser, device, other, runner, version, contender, submission } = party
  return {
    party,
    ids: [lenser, device.kid, other.kid, runner, version, contender, submission, permit.run_id as string],
  }
}

const tables = async (): Promise<string[]> => {
  const { rows } = await world().db.query(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname IN ('agents', 'audit', 'battles', 'devices', 'execution', 'lensers', 'lenses', 'reputation', 'xp')
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`,
  )
  return rows.map(({ name }) => name)
}
/** How many rows of a table that name one of these ids somebody sees; null where they may not look at all. */
const seen = (role: string, claims: string | null, table: string, ids: readonly string[]): Promise<number | null> =>
  as(role, claims, async (client) => {
    try {
      const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${table} x WHERE to_jsonb(x)::text ~ $1`, [
        ids.join('|'),
      ])
      return rows[0].n as number
    } catch (error) {
      if ((error as { code?: string }).code !== '42501') throw error
      return null
    }
  })

test('EA-1: what is an account’s, its owner sees and nobody else, in every table there is', async (t) => {
  const { db } = world()
  const [{ party, ids }, stranger] = [await makeVictim(), await makeParty(db)]
  const nobody = [
    ...['', '{}', 'null', '{"sub":null}', '{"sub":""}', '{"sub":"*"}', '{"sub":["x"]}', `{"sub":"${party.lenser}"}`],
    JSON.stringify({ sub: stranger.userId, user_id: party.userId, lenser_id: party.lenser, role: 'service_role' }),
  ]
  let visible = 0
  for (const table of await tables()) {
    const own = await seen('authenticated', ofUser(party), table, ids)
    t.is(await seen('authenticated', ofUser(stranger), table, ids), own === null ? null : 0, table)
    for (const role of ['anon', 'service_role', 'ltg_verifier', 'ltg_trust_evaluator', 'ltg_registrar']) {
      t.is(await seen(role, ofUser(party), table, ids), null, `${role} ${table}`)
    }
    if (own === null) continue
    visible += own > 0 ? 1 : 0
    for (const claims of nobody) {
      const found = await seen('authenticated', claims, table, ids).catch(() => 0)
      t.is(found, 0, `${claims} ${table}`)
    }
  }
  t.true(visible >= 15, `its owner sees ${visible} tables of their own`)
})

for (const role of ['anon', 'authenticated']) {
  test(`law 4: ${role} calls all that it may with anything, and nothing of another’s moves`, async (t) => {
    t.timeout(120_000)
    const { db } = world()
    const [{ party, ids }, stranger] = [await makeVictim(), await makeParty(db)]
    const counted = async (): Promise<unknown> => {
      const { rows } = await db.query(
        `SELECT (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.id) FROM xp.ledger l WHERE l.lenser_id = $1) AS ledger,
                (SELECT to_jsonb(s) FROM reputation.lenser_scores s WHERE s.lenser_id = $1) AS scores`,
        [party.lenser],
      )
      return [rows, await evidenceOf(db, ids)]
    }
    const before = await counted()
    const atHand = {
      ids: [...ids, stranger.contender, stranger.runner],
      envelopes: ['fully_trusted'],
      digests: [Buffer.alloc(32, 4)],
    }
    const callables = await callablesOf(db, role)
    for (const callable of callables) {
      const places = callable.types.map((type, n) => `$${n + 1}::${type}`).join(', ')
      const called = fc.asyncProperty(argumentsOf(callable, atHand), async (values) => {
        const claims = role === 'anon' ? null : ofUser(stranger)
        await as(
          role,
          claims,
          (client) => client.query(`SELECT * FROM ${callable.name}(${places})`, values),
          true,
        ).catch(() => {})
      })
      await fc.assert(called, { numRuns: 25 })
    }
    t.deepEqual(await counted(), before)
    t.is(callables.length > 0, role === 'authenticated')
  })
}
