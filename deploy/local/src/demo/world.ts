import { type PgConnection, withClient } from '../postgres-connection.ts'

/** What the platform around the gateway knows of a contest: somebody's agent, its lens version, its submission. */
export interface Contest {
  readonly version: string
  readonly submission: string
}

/** Calls a function as a role, for somebody where a user id is given, as the platform around the gateway does. */
async function callAs(
  owner: PgConnection,
  { role, userId }: { role: 'authenticated' | 'service_role'; userId?: string },
  call: string,
  values: unknown[],
): Promise<string> {
  return withClient(owner, async (client) => {
    await client.query('BEGIN')
    await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: userId })])
    await client.query(`SET LOCAL ROLE ${role}`)
    const { rows } = await client.query<{ id: string }>(`SELECT ${call} AS id`, values)
    await client.query('COMMIT')
    return (rows[0] as { id: string }).id
  })
}

/** What people do on the platform: somebody opens a battle; the account publishes a version, joins, and submits. */
export async function makeContest(owner: PgConnection, lenser: string, runner: string): Promise<Contest> {
  const { user_id: userId } = await withClient(owner, async (client) => {
    const { rows } = await client.query('SELECT user_id FROM lensers.profiles WHERE id = $1', [lenser])
    return rows[0] as { user_id: string }
  })
  const asPlatform = { role: 'service_role' } as const
  const asOwner = { role: 'authenticated', userId } as const
  const battle = await callAs(owner, asPlatform, 'battles.fn_battle_open($1)', ['who sorts best'])
  const version = await callAs(
    owner,
    asOwner,
    `lenses.fn_version_publish($1, $2, sha256('the lens'), sha256('the workflow'))`,
    ['sorting', 'sort-backwards'],
  )
  const contender = await callAs(owner, asOwner, `battles.fn_contender_join($1, 'ai_runner', NULL, $2)`, [
    battle,
    runner,
  ])
  return { version, submission: await callAs(owner, asOwner, 'battles.fn_submit($1)', [contender]) }
}

/** Another account with a device of its own, as far as a stranger's envelope needs one. */
export async function makeStranger(owner: PgConnection, publicKey: Uint8Array): Promise<string> {
  return withClient(owner, async (client) => {
    const made = await client.query<{ id: string }>(
      `WITH profile AS (
         INSERT INTO lensers.profiles (user_id, issuer, subject)
         VALUES (gen_random_uuid(), 'demo', 'stranger') RETURNING id
       )
       INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
       SELECT id, 'elsewhere', 'laptop', 'linux', $1 FROM profile RETURNING id`,
      [publicKey],
    )
    return (made.rows[0] as { id: string }).id
  })
}

/** What a superuser can do and nobody else: changes a record, past every trigger. Returns how to undo it. */
export async function tamperWithChain(
  owner: PgConnection,
  lenser: string,
): Promise<{ seq: string; undo: () => Promise<void> }> {
  const rewrite = (payload: string, seq: string) =>
    withClient(owner, async (client) => {
      await client.query(`SET session_replication_role = replica`)
      await client.query(`ALTER TABLE audit.hash_chains DISABLE TRIGGER ALL`)
      const before = await client.query<{ payload: string }>(
        `SELECT payload::text FROM audit.hash_chains WHERE lenser_id = $1 AND seq = $2`,
        [lenser, seq],
      )
      await client.query(`UPDATE audit.hash_chains SET payload = $3 WHERE lenser_id = $1 AND seq = $2`, [
        lenser,
        seq,
        payload,
      ])
      await client.query(`ALTER TABLE audit.hash_chains ENABLE ALWAYS TRIGGER deny_mutation`)
      return (before.rows[0] as { payload: string }).payload
    })
  const seq = await withClient(owner, async (client) => {
    const found = await client.query<{ seq: string }>(
      `SELECT seq FROM audit.hash_chains WHERE lenser_id = $1 AND event_kind = 'attestation' ORDER BY seq LIMIT 1`,
      [lenser],
    )
    return (found.rows[0] as { seq: string }).seq
  })
  const before = await rewrite('{"ok": true, "result": {"level": "a lie"}}', seq)
  return { seq, undo: async () => void (await rewrite(before, seq)) }
}
