import { type PgConnection, withClient } from '../postgres-connection.ts'

/** What the platform around the gateway knows of a contest: somebody's agent, its lens version, its submission. */
export interface Contest {
  readonly version: string
  readonly submission: string
}

/** Makes what the platform would have made: an AI runner of the account as contender, a pinned version, a submission. */
export async function makeContest(owner: PgConnection, lenser: string): Promise<Contest> {
  return withClient(owner, async (client) => {
    const made = await client.query<{ version: string; submission: string }>(
      `WITH lens AS (
         INSERT INTO lenses.lenses (lenser_id, name) VALUES ($1, 'sorting') RETURNING id
       ), workflow AS (
         INSERT INTO lenses.workflows (lenser_id, name) VALUES ($1, 'sort-backwards') RETURNING id
       ), version AS (
         INSERT INTO lenses.versions (lenser_id, lens_id, number, lens_hash, workflow_id, workflow_hash)
         SELECT $1, lens.id, 1, sha256('the lens'), workflow.id, sha256('the workflow') FROM lens, workflow RETURNING id
       ), battle AS (
         INSERT INTO battles.battles (title) VALUES ('who sorts best') RETURNING id
       ), contender AS (
         INSERT INTO battles.contenders (battle_id, kind, owner_lenser_id)
         SELECT battle.id, 'ai_runner', $1 FROM battle RETURNING id, battle_id
       )
       INSERT INTO battles.submissions (battle_id, contender_id, submitter_lenser_id)
       SELECT contender.battle_id, contender.id, $1 FROM contender
       RETURNING id AS submission, (SELECT id FROM version) AS version`,
      [lenser],
    )
    return made.rows[0] as Contest
  })
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
