import { withClient } from '@lenserfight/local'
import { testStack } from '@lenserfight/testkit/stack'
import { connect, nkeyAuthenticator } from '@nats-io/transport-node'
import test from 'ava'
import { attest, createFleet, sendHeartbeat, startRun } from './_fleet.ts'
import { readEquations } from './equations.ts'

/** What is done to the books, past every guard, and equations that must notice, which nothing before broke. What is broken stays broken. */
const harms: readonly (readonly [sql: string, notice: readonly string[]])[] = [
  [
    `DELETE FROM agents.policy_evaluations WHERE id = (SELECT max(id) FROM agents.policy_evaluations)`,
    ['4 policy verdicts = runs'],
  ],
  [
    `UPDATE devices.operations SET result = result || '{"level": "other"}' WHERE op_id = (SELECT op_id FROM execution.runs LIMIT 1)`,
    ['3 results stored as heard = stored', '7 operations with exactly their one record = operations'],
  ],
  [
    `DELETE FROM devices.envelope_claims c USING execution.attestations a WHERE c.digest = a.digest AND c.kid = a.device_id`,
    ['6 applied envelopes with a good claim', '6 envelopes heard ok with a good claim'],
  ],
  [
    `UPDATE devices.envelope_claims SET digest = sha256('') WHERE kind = 'heartbeat'`,
    ['6 claims of envelopes sent = claims'],
  ],
  [
    `INSERT INTO audit.pending (lenser_id, device_id, kid, op_id, event_kind, digest, payload)
     SELECT lenser_id, device_id, kid, op_id, event_kind, digest, payload FROM audit.hash_chains WHERE event_kind = 'attestation' LIMIT 1`,
    ['7 entries of operations = operations', '8 entries = records', '8 sum of the heads = records'],
  ],
  [
    `UPDATE execution.trust_evaluations SET attestation_id = NULL`,
    ['5 attestations judged fully trusted = attestations'],
  ],
  [`UPDATE audit.hash_chains SET payload = '{}' WHERE seq = 2`, ['8 chains that verify']],
  [`UPDATE audit.chain_heads SET seq = seq + 1`, ['8 heads that are the last entry']],
  [
    `INSERT INTO execution.runs SELECT (jsonb_populate_record(r, jsonb_build_object('id', uuidv7(), 'op_id', uuidv7()))).* FROM execution.runs r LIMIT 1`,
    ['4 runs = run_start', '4 runs of their own operation = runs'],
  ],
  [`DELETE FROM devices.heartbeats`, ['7 entries of heartbeats']],
  [
    `DELETE FROM devices.operations WHERE kind = 'attestation'`,
    ['3 stored operations = settled operations', '5 attestations of their own operation = attestations'],
  ],
]

test('each equation notices what it is there for', async (t) => {
  const stack = await testStack()
  t.teardown(stack.stop)
  const fleet = await createFleet(stack, { lensers: 1, devicesEach: 1, resend: { floorMs: 5000, ceilingMs: 5000 } })
  t.teardown(fleet.close)
  await Promise.all(fleet.machines.map(sendHeartbeat))
  const permits = await Promise.all(fleet.machines.flatMap((machine) => [startRun(machine), startRun(machine)]))
  await attest(permits[0] ?? t.fail('no permit'))
  const broken = async (): Promise<string[]> =>
    (await readEquations(stack, fleet, 4)).filter(([, left, right]) => left !== right).map(([name]) => name)
  let before = await broken()
  t.deepEqual(before, [])

  const guarded = ['agents.policy_evaluations', 'devices.operations', 'devices.envelope_claims', 'audit.hash_chains']
  guarded.push('audit.chain_heads', 'execution.trust_evaluations', 'execution.runs', 'devices.heartbeats')
  await withClient(stack.owner, async (db) => {
    for (const table of guarded) await db.query(`ALTER TABLE ${table} DISABLE TRIGGER ALL`)
    for (const [sql, notice] of harms) {
      t.true(((await db.query(sql)).rowCount ?? 0) > 0, sql)
      const names = await broken()
      for (const name of notice) t.true(names.includes(name) && !before.includes(name), `${name}: ${sql}`)
      before = names
    }
  })
  const nc = await connect({
    servers: stack.nats.url,
    authenticator: nkeyAuthenticator(new TextEncoder().encode(stack.busUser('verifier').seed)),
  })
  nc.publish('ltg.v1.dead.verifier', 'an envelope')
  await nc.drain()
  t.true((await broken()).includes('9 dead letters = 0'))
})
