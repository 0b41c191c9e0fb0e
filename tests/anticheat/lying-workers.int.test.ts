import { generateKeyPair } from '@lenserfight/envelope'
import { kindsOf } from '@lenserfight/schemas'
import { makeSession, setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { askAs, claimRequestAs, doAs } from './_ask.ts'
import { ingressBodies } from './_bodies.ts'
import { useDatabase } from './_database.ts'
import { effectsOn, evidenceOf } from './_evidence.ts'
import { applyAs, claimAs, type InKind } from './_roads.ts'
import { attestationOf, heartbeatOf, makeParty, nobodys, type Party, permitOf, runStartOf } from './_scene.ts'
import { type Said, seal } from './_seal.ts'

// One worker lies, with its own role; the others are honest, and what they would not do was not done.
const world = useDatabase(test)
const kindsIn = kindsOf('in') as readonly InKind[]

const stateOf = async ({ lenser, device }: Party): Promise<unknown> => [
  await evidenceOf(world().db, [lenser]),
  await effectsOn(world().db, device.kid),
]

for (const kind of kindsIn) {
  test(`law 5: ${kind}: who applies it alone gets nothing from what no verifier let in at that door, as that`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const { device } = party
    const permit = await permitOf(road, party, { submission_id: undefined })
    const sealed = () => seal(road.gatewayId, device, ingressBodies(party, permit.run_id as string)[kind])
    const unheard = sealed()
    const [otherKind, replayed, another] = [sealed(), sealed(), sealed()]
    t.is(await claimAs(roles, device, { ...otherKind, kind: kind === 'canary' ? 'heartbeat' : 'canary' }), 'ok')
    t.is(await claimAs(roles, device, replayed), 'ok')
    // The same nonce with other bytes: the claim is of the first.
    const twin = seal(road.gatewayId, device, ingressBodies(party, nobodys())[kind], { nonce: another.nonce })
    t.is(await claimAs(roles, device, another), 'ok')
    t.is(await claimAs(roles, device, twin), 'nonce_replay')
    const status = seal(road.gatewayId, device, { kind: 'status' })
    t.is(await claimRequestAs(roles, device, status), 'ok', 'what came in at the other door')
    const before = await stateOf(party)
    for (const [what, { text }] of Object.entries({ unheard, otherKind, twin })) {
      const [outcome] = await applyAs(roles, kind, [text])
      t.is(outcome?.code, 'claim_expired', what)
    }
    const [outcome] = await applyAs(roles, kind, [status.text])
    t.is(outcome?.code, 'kind_mismatch', 'at the other door')
    t.deepEqual(await stateOf(party), before)
  })
}

test('law 5: what a verifier refused for its device’s state, an evaluator does not apply when the state is another', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  const { device } = party
  const permit = await permitOf(road, party)
  await askAs(roles, road.gatewayId, party.session, { kind: 'suspend', device_id: device.kid })
  const sealed = seal(road.gatewayId, device, attestationOf(permit))
  t.is(await claimAs(roles, device, sealed), 'device_unhealthy')
  await askAs(roles, road.gatewayId, party.session, { kind: 'reinstate', device_id: device.kid })
  const before = await stateOf(party)
  t.is((await applyAs(roles, 'attestation', [sealed.text]))[0]?.code, 'claim_expired')
  t.is(await claimAs(roles, device, sealed), 'nonce_replay', 'nor may another message claim it')
  t.deepEqual(await stateOf(party), before)
})

for (const level of ['revoked', 'blocked', 'unhealthy'] as const) {
  test(`rule 7: ${level} between its claim and its storing: an evaluator that held it back stores no trust`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const permit = await permitOf(road, party)
    const sealed = seal(road.gatewayId, party.device, attestationOf(permit, { device_trusted: true }))
    t.is(await claimAs(roles, party.device, sealed), 'ok')
    await setLevel(db, party.device.kid, level)
    const [outcome] = await applyAs(roles, 'attestation', [sealed.text])
    t.like(outcome?.result, { level: 'agent_verified', reason: 'device_trusted' })
  })
}

test('law 5: a verifier alone: whatever it claims, for whom it likes, of what nobody sent, nothing is stored', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  const permit = await permitOf(road, party)
  const before = await stateOf(party)
  const { privateKey: key } = generateKeyPair()
  for (const body of Object.values(ingressBodies(party, permit.run_id as string))) {
    t.is(await claimAs(roles, party.device, seal(road.gatewayId, party.device, body, { key })), 'ok', body.kind)
  }
  t.deepEqual(await stateOf(party), before)
  for (const name of [
    'execution.fn_run_start',
    'execution.fn_record_execution_attestation',
    'devices.fn_device_heartbeat',
  ]) {
    const called = roles.pool('ltg_verifier').query(`SELECT ${name}(ARRAY['x'])`)
    t.is(((await t.throwsAsync(called)) as { code?: string }).code, '42501', name)
  }
})

test('law 5: an evaluator alone frames nobody, dismisses nothing that is none, and promotes nobody who earned nothing', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  const { device } = party
  const [one, other] = [heartbeatOf(party), heartbeatOf(party)].map((body) => seal(road.gatewayId, device, body))
  await claimAs(roles, device, one as NonNullable<typeof one>)
  await applyAs(roles, 'heartbeat', [one?.text ?? ''])
  const before = await stateOf(party)
  const evaluator = roles.pool('ltg_trust_evaluator')
  const digests = [one, other].map((sealed) => Buffer.from(sealed?.digest ?? '', 'base64url'))
  for (const [a, b] of [digests, digests.toReversed()]) {
    const { rows } = await evaluator.query('SELECT devices.fn_judge_fork($1, 1, $2, $3) AS proven', [device.kid, a, b])
    t.deepEqual(rows, [{ proven: false }])
  }
  await evaluator.query('SELECT devices.fn_promote_trusted(1000000)')
  t.deepEqual(await stateOf(party), before)
})

/** What an owner’s session, or an API key, asks for of another account’s; the database's answer, and the broker's before it. */
const reached: Record<string, (victim: Party, run: string) => Said> = {
  approve: ({ device }) => ({ kind: 'approve', device_id: device.kid }),
  revoke: ({ device }) => ({ kind: 'revoke', device_id: device.kid }),
  suspend: ({ device }) => ({ kind: 'suspend', device_id: device.kid }),
  reinstate: ({ device }) => ({ kind: 'reinstate', device_id: device.kid }),
  rotation_require: ({ device }) => ({ kind: 'rotation_require', device_id: device.kid, within_seconds: 0 }),
  runner_bind: ({ device }) => ({ kind: 'runner_bind', name: 'mine', device_id: device.kid }),
  session_revoke: ({ session }) => ({ kind: 'session_revoke', session: session.kid }),
  approval_decide: (_, run_id) => ({ kind: 'approval_decide', run_id, decision: 'approve' }),
}
const codes: Record<string, string> = { session_revoke: 'session_not_found', approval_decide: 'unknown_run' }
for (const [kind, ask] of Object.entries(reached)) {
  test(`law 4: ${kind}: of another account’s it is refused, and nothing changes`, async (t) => {
    const { db, roles, road } = world()
    const [victim, attacker] = [await makeParty(db), await makeParty(db)]
    await askAs(roles, road.gatewayId, victim.session, { kind: 'policy_set', approval_default: 'require_human' })
    const permit = await permitOf(road, victim)
    const before = await stateOf(victim)
    const outcome = await askAs(roles, road.gatewayId, attacker.session, ask(victim, permit.run_id as string))
    t.is(outcome.code, (codes[kind] ?? 'not_owner') as typeof outcome.code)
    t.deepEqual(await stateOf(victim), before)
  })
}

const forbidden: Record<string, (party: Party, run: string) => Said> = {
  ...reached,
  policy_set: () => ({ kind: 'policy_set', approval_default: 'allow' }),
}
const ofApi = new Set(['runner_bind'])
for (const [kind, ask] of Object.entries(forbidden)) {
  if (ofApi.has(kind)) continue
  test(`law 5: ${kind}: an API key without the scope is refused, and again where the door let it in`, async (t) => {
    const { db, roles, road } = world()
    const party = await makeParty(db)
    const key = await makeSession(db, party.lenser, 'api')
    await askAs(roles, road.gatewayId, party.session, { kind: 'policy_set', approval_default: 'require_human' })
    const { run_id } = await permitOf(road, party)
    const before = await stateOf(party)
    const sealed = seal(road.gatewayId, key, ask(party, run_id as string))
    t.is(await claimRequestAs(roles, key, sealed), 'not_permitted')
    const let_in = seal(road.gatewayId, key, ask(party, run_id as string))
    // A registrar whose door is broken: its claim says that all was well.
    await db.query(
      `INSERT INTO devices.envelope_claims (door, kid, nonce, iat, kind, digest, verdict, lenser_id)
       VALUES ('ask', $1, $2, $3, $4, $5, 'ok', $6)`,
      [key.kid, let_in.nonce, let_in.iat, kind, Buffer.from(let_in.digest, 'base64url'), party.lenser],
    )
    t.is((await doAs(roles, let_in)).code, 'not_permitted')
    t.deepEqual(await stateOf(party), before)
  })
}

test('PE-3: nobody starts what the policy denies by saying it in other words', async (t) => {
  const { db, roles, road } = world()
  const party = await makeParty(db)
  await askAs(roles, road.gatewayId, party.session, { kind: 'policy_set', approval_default: 'deny' })
  await road.say(party.device, heartbeatOf(party))
  for (const more of [
    {},
    { label: 'allow' },
    { runner_id: undefined },
    { version_id: undefined },
    { submission_id: undefined },
  ]) {
    const { result } = await road.say(party.device, runStartOf(party, more))
    t.like(result, { verdict: 'deny', covered_until: null })
    t.is((await road.say(party.device, attestationOf(result))).code, 'policy_denied')
  }
  const { rowCount } = await db.query('SELECT FROM execution.attestations WHERE lenser_id = $1', [party.lenser])
  t.is(rowCount, 0)
  const { rowCount: links } = await db.query('SELECT FROM execution.links WHERE submission_id = $1', [party.submission])
  t.is(links, 0, 'and the submission is free')
})
