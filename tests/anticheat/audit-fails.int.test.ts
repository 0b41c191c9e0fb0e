import { encodeKey, generateKeyPair } from '@lenserfight/envelope'
import { makeDevice, type Signatory } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import { askAs, claimRequestAs, doAs } from './_ask.ts'
import { ingressBodies } from './_bodies.ts'
import { useDatabase } from './_database.ts'
import { effectsOn, evidenceOf } from './_evidence.ts'
import { applyAs, claimAs, type InKind } from './_roads.ts'
import { makeParty, type Party, permitOf } from './_scene.ts'
import { type Said, seal } from './_seal.ts'

const world = useDatabase(
  test,
  // No record can be written for these accounts, as where its disk is full or its table broken.
  `CREATE TABLE public.unaudited (lenser_id uuid PRIMARY KEY);
   CREATE FUNCTION public.fn_refuse_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
   BEGIN
     IF EXISTS (SELECT FROM public.unaudited u WHERE u.lenser_id = NEW.lenser_id) THEN
       RAISE EXCEPTION 'no record can be written' USING ERRCODE = 'disk_full';
     END IF;
     RETURN NEW;
   END $$;
   CREATE TRIGGER refuse_audit BEFORE INSERT ON audit.pending FOR EACH ROW EXECUTE FUNCTION public.fn_refuse_audit();
   CREATE TRIGGER refuse_audit BEFORE INSERT ON audit.hash_chains FOR EACH ROW EXECUTE FUNCTION public.fn_refuse_audit()`,
)

/** Everything that an account has. */
const allOf = async ({ lenser, device, other }: Party): Promise<unknown> => {
  const { db } = world()
  const { rows } = await db.query(
    `SELECT (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.id) FROM devices.registered_devices d WHERE d.lenser_id = $1) AS devices,
            (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.kid) FROM lensers.sessions s WHERE s.lenser_id = $1) AS sessions,
            (SELECT count(*) FROM devices.operations o WHERE o.lenser_id = $1) AS operations,
            (SELECT count(*) FROM devices.device_keys k JOIN devices.registered_devices d ON d.id = k.device_id
              WHERE d.lenser_id = $1) AS keys`,
    [lenser],
  )
  return [rows[0], await evidenceOf(db, [lenser]), await effectsOn(db, device.kid), await effectsOn(db, other.kid)]
}

/** Without an audit record it does nothing, and says so loudly; with one, the very same takes effect. */
const needsItsRecord = async (
  t: ExecutionContext,
  party: Party,
  act: () => Promise<{ ok: boolean; code?: string }>,
) => {
  const { db } = world()
  const before = await allOf(party)
  await db.query('INSERT INTO public.unaudited VALUES ($1)', [party.lenser])
  await t.throwsAsync(act, undefined, 'an effect without a record is no effect')
  t.deepEqual(await allOf(party), before)
  await db.query('DELETE FROM public.unaudited WHERE lenser_id = $1', [party.lenser])
  const outcome = await act()
  t.true(outcome.ok, outcome.code)
  t.notDeepEqual(await allOf(party), before, 'and with one it has one')
}

const kinds = [
  'heartbeat',
  'run_start',
  'run_withdraw',
  'tool_invocation',
  'attestation',
  'lifecycle',
] as const satisfies readonly InKind[]
for (const kind of kinds) {
  test(`mistake 7: ${kind}: no record, no effect`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const permit = await permitOf(road, party, { submission_id: undefined })
    const sealed = seal(road.gatewayId, party.device, ingressBodies(party, permit.run_id as string)[kind])
    t.is(await claimAs(roles, party.device, sealed), 'ok')
    await needsItsRecord(t, party, async () => (await applyAs(roles, kind, [sealed.text]))[0] ?? { ok: false })
  })
}

test('mistake 7: run_renew: a verdict that changes what was said before has its record, or is none', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  const { run_id } = await permitOf(road, party)
  await askAs(roles, road.gatewayId, party.session, { kind: 'policy_set', runner_paused: true })
  const sealed = seal(road.gatewayId, party.device, { kind: 'run_renew', runs: [run_id] })
  t.is(await claimAs(roles, party.device, sealed), 'ok')
  await needsItsRecord(t, party, async () => (await applyAs(roles, 'run_renew', [sealed.text]))[0] ?? { ok: false })
})

const key = (): string => encodeKey(generateKeyPair().publicKey)
type Asked = (party: Party, pending: Signatory) => Said
const requests: Record<string, Asked> = {
  register: () => ({
    kind: 'register',
    name: 'another',
    device_type: 'ci',
    os: 'linux',
    public_key: key(),
    capabilities: [],
  }),
  suspend: ({ device }) => ({ kind: 'suspend', device_id: device.kid }),
  revoke: ({ device }) => ({ kind: 'revoke', device_id: device.kid }),
  rotation_require: ({ device }) => ({ kind: 'rotation_require', device_id: device.kid, within_seconds: 60 }),
  runner_bind: ({ device }) => ({ kind: 'runner_bind', name: 'another', device_id: device.kid }),
  policy_set: () => ({ kind: 'policy_set', approval_default: 'deny' }),
  session_revoke: ({ session }) => ({ kind: 'session_revoke', session: session.kid }),
  api_key_create: () => ({
    kind: 'api_key_create',
    name: 'another',
    public_key: key(),
    may_approve: false,
    expires_in_days: 1,
  }),
}
for (const [kind, asked] of Object.entries(requests)) {
  test(`mistake 7: ${kind}: no record, no effect, for owners either`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const pending = await makeDevice(db, { lenser: party.lenser, level: 'pending' })
    const sealed = seal(road.gatewayId, party.session, asked(party, pending))
    t.is(await claimRequestAs(roles, party.session, sealed), 'ok')
    await needsItsRecord(t, party, () => doAs(roles, sealed))
  })
}

test('mistake 7: approval_decide: no record, no answer of a person', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  await askAs(roles, road.gatewayId, party.session, { kind: 'policy_set', approval_default: 'require_human' })
  const { run_id } = await permitOf(road, party)
  const sealed = seal(road.gatewayId, party.session, { kind: 'approval_decide', run_id, decision: 'approve' })
  t.is(await claimRequestAs(roles, party.session, sealed), 'ok')
  await needsItsRecord(t, party, () => doAs(roles, sealed))
})

test('mistake 7: the platform’s block and the server’s own transitions: no record, no transition', async (t) => {
  const { db, roles } = world()
  const party = await makeParty(db)
  const block = async () => {
    const client = await db.connect()
    try {
      await client.query('BEGIN; SET LOCAL ROLE service_role')
      const { rows } = await client.query(`SELECT devices.fn_device_block($1, 'abuse') AS outcome`, [party.device.kid])
      await client.query('COMMIT')
      return rows[0].outcome as { ok: boolean }
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }
  await needsItsRecord(t, party, block)
  const silent = await makeParty(db)
  await db.query(
    `UPDATE devices.registered_devices SET last_heartbeat_at = now() - interval '25 hours' WHERE id = $1`,
    [silent.device.kid],
  )
  await needsItsRecord(t, silent, async () => {
    await roles.pool('ltg_trust_evaluator').query('SELECT devices.fn_mark_offline(100)')
    return { ok: true }
  })
})
