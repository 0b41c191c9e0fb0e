import { call } from '@lenserfight/db'
import { generateKeyPair } from '@lenserfight/envelope'
import { kindsOf } from '@lenserfight/schemas'
import test from 'ava'
import fc from 'fast-check'
import { argumentsOf, callablesOf } from './_anything.ts'
import { ingressBodies } from './_bodies.ts'
import { useDatabase } from './_database.ts'
import { effectsOn, evidenceOf } from './_evidence.ts'
import { appliers, applyAs, claimAs, type InKind } from './_roads.ts'
import { attestationOf, hashOf, makeParty, type Party, permitOf, runStartOf } from './_scene.ts'
import { seal } from './_seal.ts'

const world = useDatabase(test)
const kindsIn = kindsOf('in') as readonly InKind[]

interface ParameterRow {
  readonly name: string
  readonly parameters: string[]
}
/** The parameters of every function of ours that somebody but its owner may execute. */
const granted = async (): Promise<ParameterRow[]> => {
  const { rows } = await world().db.query(
    `SELECT format('%s.%s', n.nspname, p.proname) AS name,
            coalesce(p.proargnames[1 : p.pronargs], '{}')::text[] AS parameters
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE EXISTS (SELECT FROM pg_roles r
                     WHERE (r.rolname LIKE 'ltg\\_%' AND r.rolname <> 'ltg_owner'
                            OR r.rolname IN ('anon', 'authenticated', 'service_role'))
                       AND has_function_privilege(r.oid, p.oid, 'EXECUTE'))
        AND n.nspname IN ('agents', 'audit', 'battles', 'devices', 'execution', 'lensers', 'lenses', 'reputation', 'xp')
      ORDER BY 1`,
  )
  return rows
}

test('mistake 2: nothing that anybody may execute takes a flag, a fact, a level or a verdict', async (t) => {
  const all = await granted()
  t.true(all.length > 40)
  const claimed = /signed|verified|trusted|passed|fact|level|verdict|covered|hash|amount|points|score/
  t.deepEqual(
    all.filter(({ parameters }) => parameters.some((name) => claimed.test(name))).map(({ name }) => name),
    // An owner publishes what a version of theirs is; runs are held to it.
    ['lenses.fn_version_publish'],
  )
})

test('mistake 1: what applies an envelope takes its bytes, and nothing beside them that it stores', async (t) => {
  const withBytes = (await granted()).filter(({ parameters }) => parameters.some((name) => /^p_envelopes?$/.test(name)))
  const batches = withBytes.filter(({ parameters }) => parameters.includes('p_envelopes')).map(({ name }) => name)
  // A push is opened first, which keeps nothing.
  const expected = [...kindsIn.map((kind) => appliers[kind].name as string), 'devices.fn_sync_open'].toSorted()
  t.deepEqual(batches, expected, 'each kind’s, and no other')
  const beside = withBytes.filter(({ parameters }) => parameters.length > 1)
  t.deepEqual(beside, [
    // Under which of the keys on record the registrar found the proof good: compared, never stored.
    { name: 'devices.fn_device_rotate', parameters: ['p_envelopes', 'p_keys'] },
    // What the sync-applier merged: held to the envelopes' bytes and to what was stored, by the database.
    { name: 'devices.fn_sync_push', parameters: ['p_envelopes', 'p_merged'] },
    // What the registrar read in the token, which the database cannot check.
    { name: 'lensers.fn_session_login', parameters: ['p_envelope', 'p_token'] },
  ])
})

for (const kind of kindsIn) {
  test(`mistake 1: ${kind}: one character other than was claimed, anywhere, and nothing is applied`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const permit = await permitOf(road, party, { submission_id: undefined })
    const { device, lenser } = party
    const sealed = seal(road.gatewayId, device, ingressBodies(party, permit.run_id as string)[kind])
    t.is(await claimAs(roles, device, sealed), 'ok')
    const before = [await evidenceOf(db, [lenser]), await effectsOn(db, device.kid)]
    const tampered = fc.tuple(
      fc.nat(sealed.text.length - 1),
      fc.constantFrom('0', '1', 'a', 'Z', '"', ',', '}', ' ', 'é'),
    )
    const refused = fc.asyncProperty(tampered, async ([place, character]) => {
      fc.pre(sealed.text[place] !== character)
      const text = sealed.text.slice(0, place) + character + sealed.text.slice(place + 1)
      const code = await applyAs(roles, kind, [text]).then(
        ([outcome]) => outcome?.code ?? 'ok',
        (error: { code?: string }) => error.code ?? 'thrown',
      )
      return code !== 'ok'
    })
    await t.notThrowsAsync(async () => fc.assert(refused, { numRuns: 60 }))
    t.deepEqual([await evidenceOf(db, [lenser]), await effectsOn(db, device.kid)], before)
    const [outcome] = await applyAs(roles, kind, [sealed.text])
    t.not(outcome?.code, 'claim_expired', 'as it was claimed it is judged')
  })
}

/** What the signed body says, as a row has it. */
const asStored = (value: unknown): unknown =>
  typeof value === 'string' && /^[\w-]{43}$/.test(value) ? Buffer.from(value, 'base64url') : value

test('mistake 1: the columns of a run and its attestation are what the signed bytes say', async (t) => {
  const { db, road } = world()
  const party = await makeParty(db)
  const said = runStartOf(party, { command_hash: hashOf(11), label: 'LTG-CANARY label' })
  const { result: permit } = await road.say(party.device, said)
  const attestation = attestationOf(permit, {
    ...{ command_hash: hashOf(12), stdin_hash: hashOf(13), stdout_hash: hashOf(14), exit_code: 3, signal: 'SIGTERM' },
    ...{ outputs: [{ name: 'LTG-CANARY', sha256: hashOf(15), bytes: 9 }], inputs: [], tool_invocations: 7 },
  })
  await road.say(party.device, attestation)
  const row = async (table: string, id: string): Promise<Record<string, unknown>> =>
    (await db.query(`SELECT * FROM ${table} WHERE ${id} = $1`, [permit.run_id])).rows[0]
  const columns = { ...said, ...{ kind: undefined } }
  const run = await row('execution.runs', 'id')
  for (const [name, value] of Object.entries(columns))
    if (value !== undefined) t.deepEqual(run[name], asStored(value), name)
  const stored = await row('execution.attestations', 'run_id')
  for (const [name, value] of Object.entries(attestation)) {
    if (name === 'kind') continue
    const column = stored[name]
    t.deepEqual(column instanceof Date ? column.getTime() : column, asStored(value), name)
  }
})

/** What an insider could want to change: a victim with runs in every state, and what the victim signed. */
const makeVictim = async () => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  const attested = await permitOf(road, party)
  await road.say(party.device, attestationOf(attested, { command_hash: hashOf(9) }))
  const open = await permitOf(road, party, { submission_id: undefined })
  const { privateKey: key } = generateKeyPair()
  const bodies = Object.values(ingressBodies(party, open.run_id as string))
  const unclaimed = bodies.map((body) => seal(road.gatewayId, party.device, body))
  const forged = bodies.map((body) => seal(road.gatewayId, party.device, body, { key }))
  const asked = seal(road.gatewayId, party.session, { kind: 'revoke', device_id: party.device.kid })
  // Claimed by a verifier that was honest, as what they are not.
  for (const sealed of unclaimed.slice(0, 3)) await claimAs(roles, party.device, { ...sealed, kind: 'canary' })
  const sealed = [...unclaimed, ...forged, asked]
  return {
    party,
    atHand: {
      ids: [
        ...[party.lenser, party.device.kid, party.other.kid, party.session.kid, party.runner, party.version],
        ...[party.contender, party.submission, attested.run_id as string, open.run_id as string],
      ],
      envelopes: sealed.map(({ text }) => text),
      digests: sealed.map(({ digest }) => Buffer.from(digest, 'base64url')),
    },
  }
}
const stateOf = async ({ lenser, device, other }: Party): Promise<unknown> => {
  const { db } = world()
  const { rows: levels } = await db.query(
    `SELECT DISTINCT ON (run_id) run_id, trust_level, facts FROM execution.trust_evaluations WHERE lenser_id = $1
      ORDER BY run_id, id DESC`,
    [lenser],
  )
  const { rows: sessions } = await db.query(
    `SELECT to_jsonb(s) - 'last_seen_at' AS row FROM lensers.sessions s WHERE lenser_id = $1`,
    [lenser],
  )
  return [
    await evidenceOf(db, [lenser]),
    await effectsOn(db, device.kid),
    await effectsOn(db, other.kid),
    levels,
    sessions,
  ]
}

for (const role of ['ltg_verifier', 'ltg_trust_evaluator', 'ltg_registrar', 'ltg_broker_auth', 'ltg_audit_chain']) {
  test(`law 5: ${role} calls all that it may with anything, and nothing of a victim’s moves`, async (t) => {
    t.timeout(120_000)
    const { db, roles } = world()
    const { party, atHand } = await makeVictim()
    const before = await stateOf(party)
    const callables = await callablesOf(db, role)
    t.true(callables.length > 0)
    let answered = 0
    for (const callable of callables) {
      const called = fc.asyncProperty(argumentsOf(callable, atHand), async (values) => {
        // What it says is not the question; a call that is refused is as good as one that does nothing.
        answered += await call(roles.pool(role), callable.name, values).then(
          () => 1,
          () => 0,
        )
      })
      await fc.assert(called, { numRuns: 25 })
    }
    t.true(answered > callables.length, 'not all were refused for their form alone')
    t.deepEqual(await stateOf(party), before)
  })
}
