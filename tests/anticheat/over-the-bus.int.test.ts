import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { consume, type Delivery } from '@lenserfight/bus'
import { createPool, type Pool } from '@lenserfight/db'
import { generateKeyPair, kidOfKey } from '@lenserfight/envelope'
import { rolePassword } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger, InfrastructureError } from '@lenserfight/runtime'
import { inSubject, kindsOf, nilUuid, type ReasonCode } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { connectWorker } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import { connect } from '@nats-io/transport-node'
import test from 'ava'
import { Machine, until } from '../e2e/_machine.ts'
import { askBodies, ingressBodies } from './_bodies.ts'
import { effectsOn, evidenceOf } from './_evidence.ts'
import * as lies from './_lies.ts'
import { type OddKind, oddMembers, plainMembers } from './_odd.ts'
import * as policyLies from './_policy-lies.ts'
import { busRoad, claimAs, type InKind, insiderRoad, type Road, type Roles, rolesOf } from './_roads.ts'
import { attestationOf, heartbeatOf, makeParty, type Party, permitOf } from './_scene.ts'
import { type Said, type Sealed, seal } from './_seal.ts'
import { told } from './_told.ts'

const logger = createLogger({ service: 'verifier', level: 'silent' })
let stack: Stack
let db: Pool
let roles: Roles
let bus: ReturnType<typeof busRoad>
let insider: Awaited<ReturnType<typeof insiderRoad>>
let roads: Road[]
test.before(async () => {
  stack = await testStack()
  db = createPool({ ...stack.owner, max: 8, logger, connectTimeoutMs: 60_000 })
  roles = rolesOf((user) => ({ ...stack.owner, user, password: rolePassword(stack.owner, user) }))
  bus = busRoad(stack)
  insider = await insiderRoad(stack, roles, bus.ears)
  roads = [bus, insider]
})
test.after.always(async () => {
  await Promise.all([bus?.close(), insider?.close(), roles?.end(), db?.end()])
  await stack?.stop()
})
const world = () => ({ db, roads })
const gatewayId = (): string => stack.descriptor.gateway_id

/** A verifier that takes the message, claims it, and is gone before it says a word to anybody. Returns the verdict. */
const claimAndDie = async (device: Signatory, sealed: Sealed): Promise<string> => {
  const bus = await connectWorker(stack, 'verifier')
  const taken = Promise.withResolvers<Delivery>()
  const gone = Promise.withResolvers<never>()
  gone.promise.catch(() => {})
  const consumption = consume<Delivery>({
    ...{ bus, stream: 'LTG_INGRESS', consumer: 'verifier', logger, batch: { maxMessages: 1, maxWaitMs: 1 } },
    decode: (delivery) => [delivery],
    handle: ([delivery]) => {
      taken.resolve(delivery as Delivery)
      return gone.promise
    },
  })
  const { data, seq, stored } = await taken.promise
  if (!Buffer.from(data).equals(sealed.bytes)) throw new Error('another message')
  const verdict = await claimAs(roles, device, sealed, { seq, stored: BigInt(stored) })
  await bus.nc.close()
  gone.reject(new InfrastructureError('gone'))
  await consumption.stop()
  return verdict
}

test.serial(
  'mistake 11: what a verifier claimed and died over is handed on by the next, once, and is no replay',
  async (t) => {
    const party = await makeParty(db)
    const permit = await permitOf(bus, party)
    const [worker] = stack.workers('verifier')
    await worker?.stop()
    const sealed = seal(gatewayId(), party.device, attestationOf(permit))
    const outcome = bus.send(party.device, sealed)
    t.is(await claimAndDie(party.device, sealed), 'ok')
    await worker?.start()
    t.like((await outcome).result, { level: 'fully_trusted', run_id: permit.run_id })
    const { rows } = await db.query('SELECT FROM execution.attestations WHERE run_id = $1', [permit.run_id])
    t.is(rows.length, 1)
    t.is((await bus.send(party.device, sealed)).code, 'nonce_replay', 'the same bytes as another message are')
  },
)

test('what nobody lied about is fully trusted on both roads', told(world, lies.truth))
test('AC-1 AC-2 AC-3: flags that a client sends lift nothing', told(world, lies.flagLies))
test('EA-1: a run of another account or device, or none, is attested by nobody', told(world, lies.foreignRuns))
test('a run names nothing of another account, and no submission twice', told(world, lies.foreignNames))
test('rule 5: what is attested other than permitted has not passed the policy', told(world, lies.otherThanPermitted))
test('WT-1 WT-2: hashes that are missing, invented or changed under way', told(world, lies.unpinned))
test('mistake 4: no level of a runner without its binding from permit to attestation', told(world, lies.unbound))
test('RH-4: without a heartbeat of its own a run stays at agent_verified', told(world, lies.heartbeatless))
test('a contender that is no agent, and a version that is none', told(world, lies.wrongContenders))
test('PE-3: what the policy denied is attested by nobody', told(world, lies.denied))

test('AC-3: what was withdrawn, or is not covered, has not passed the policy', told(world, policyLies.withdrawn))
test('PE-3: what awaits a person, or came to a pause, has not passed either', told(world, policyLies.unapproved))
test('WT-3: a tool log that is not whole, or not allowed, has not passed either', told(world, policyLies.toolLogs))
test('EA-1: nobody writes in another run’s tool log, or in one that is over', told(world, policyLies.foreignTools))
test('EA-1: renewals and heartbeats about what is another’s change nothing', told(world, policyLies.idleTalk))
test('RH-3: a runner whose device is unfit starts nothing anywhere', told(world, policyLies.unfitRunners))
test('RH-4: a runner that its own device does not report is not heard', told(world, policyLies.silentRunners))
test('rule 5: another runner, contender or version than the permit’s', told(world, policyLies.otherNames))
for (const kind of kindsOf('in') as readonly InKind[]) {
  test(`mistake 3: ${kind}: forged, foreign or unclaimed, it does nothing, though a verifier calls it verified`, async (t) => {
    const [party, peer] = [await makeParty(db), await makeParty(db)]
    const permit = await permitOf(bus, party, { submission_id: undefined })
    const ids = [party.lenser, peer.lenser]
    const [victim, attacker] = [party.device, peer.device]
    const body = ingressBodies(party, permit.run_id as string)[kind]
    const before = [await evidenceOf(db, ids), await effectsOn(db, victim.kid), await effectsOn(db, attacker.kid)]
    const { privateKey: key } = generateKeyPair()

    t.is((await bus.say(victim, body, { key })).code, 'signature_mismatch', 'forged, on its own subject')
    t.is((await insider.say(victim, body, { key })).code, 'signature_mismatch', 'forged, called verified')
    const foreign = { ...victim, keys: attacker.keys }
    t.is((await insider.say(foreign, body)).code as string, 'key_changed', 'a key that is not on record claims nothing')
    const sealed = seal(gatewayId(), foreign, body)
    t.is((await insider.publish(victim, sealed)).code, 'signature_mismatch', 'a peer’s signature under its id')
    t.is((await insider.publish(attacker, seal(gatewayId(), victim, body))).code, 'kid_mismatch', 'another’s subject')
    t.is(
      (await insider.publish(victim, seal(gatewayId(), victim, body))).code,
      'claim_expired',
      'signed, never claimed',
    )

    const after = [await evidenceOf(db, ids), await effectsOn(db, victim.kid), await effectsOn(db, attacker.kid)]
    t.deepEqual(after, before)
  })

  test(`mistake 5: ${kind}: a nonce is good once, whatever came of it`, async (t) => {
    const party = await makeParty(db)
    const permit = await permitOf(bus, party, { submission_id: undefined })
    const sealed = seal(gatewayId(), party.device, ingressBodies(party, permit.run_id as string)[kind])
    t.not((await bus.send(party.device, sealed)).code, 'nonce_replay')
    t.is((await bus.send(party.device, sealed)).code, 'nonce_replay', 'the same bytes')
    const { nonce } = sealed
    t.is((await bus.say(party.device, heartbeatOf(party), { nonce })).code, 'nonce_replay', 'for something else')
    t.is((await bus.say(party.device, { kind: 'status' }, { nonce })).code, 'nonce_replay', 'at the other door')
  })
}

for (const kind of Object.keys(oddMembers) as OddKind[]) {
  test(`EA-3: ${kind}: members that are odd, or that only a server could know, are refused, and nothing is stored`, async (t) => {
    const party = await makeParty(db)
    const permit = await permitOf(bus, party, { submission_id: undefined })
    const before = [await evidenceOf(db, [party.lenser]), await effectsOn(db, party.device.kid)]
    for (const [what, members] of Object.entries(oddMembers[kind])) {
      const said = { ...plainMembers(permit)[kind], ...members } as unknown as Said
      for (const road of roads)
        t.is((await road.say(party.device, said)).code, 'malformed_body', `${what} [${road.name}]`)
    }
    t.deepEqual([await evidenceOf(db, [party.lenser]), await effectsOn(db, party.device.kid)], before)
    const plain = plainMembers(permit)[kind] as unknown as Said
    for (const road of roads) t.not((await road.say(party.device, plain)).code, 'malformed_body', 'as it should be')
  })
}

/** What a stranger asks about a victim's, with a session of their own, and what comes of it. */
const strange: Record<string, (victim: Party, run: string) => readonly [Said, ReasonCode]> = {
  runner_unbind: ({ runner }) => [{ kind: 'runner_unbind', runner_id: runner }, 'unknown_runner'],
  policy_test: ({ version }) => [{ kind: 'policy_test', version_id: version }, 'unknown_version'],
  approval_decide: (_, run_id) => [{ kind: 'approval_decide', run_id, decision: 'approve' }, 'unknown_run'],
  'explain a run': (_, id) => [{ kind: 'explain', id }, 'nothing_to_explain'],
  'explain a submission': ({ submission }) => [{ kind: 'explain', id: submission }, 'nothing_to_explain'],
  'explain a device': ({ device }) => [{ kind: 'explain', id: device.kid }, 'nothing_to_explain'],
  suspend: ({ device }) => [{ kind: 'suspend', device_id: device.kid }, 'not_owner'],
  runner_bind: ({ device }) => [{ kind: 'runner_bind', name: 'mine', device_id: device.kid }, 'not_owner'],
}
test('law 4: a stranger’s session learns and changes nothing of a victim’s', async (t) => {
  const [victim, stranger] = [await makeParty(db), await makeParty(db)]
  t.true((await bus.say(victim.session, { kind: 'policy_set', approval_default: 'require_human' })).ok)
  const permit = await permitOf(bus, victim)
  const before = [await evidenceOf(db, [victim.lenser]), await effectsOn(db, victim.device.kid)]
  for (const [what, ask] of Object.entries(strange)) {
    const [said, code] = ask(victim, permit.run_id as string)
    t.is((await bus.say(stranger.session, said)).code, code, what)
  }
  for (const kind of ['list', 'runners', 'runs', 'approvals', 'policy_show'] as const) {
    const { result } = await bus.say(stranger.session, { kind })
    const told = JSON.stringify(result)
    t.false(
      [victim.lenser, victim.device.kid, victim.runner, permit.run_id].some((id) => told.includes(id as string)),
      kind,
    )
  }
  t.deepEqual([await evidenceOf(db, [victim.lenser]), await effectsOn(db, victim.device.kid)], before)
  t.true(
    (await bus.say(victim.session, { kind: 'approval_decide', run_id: permit.run_id, decision: 'approve' })).ok,
    'its owner may',
  )
})

test('mistake 5: every request of the ask door is heard once, whatever came of it', async (t) => {
  const { session } = await makeParty(db)
  for (const body of askBodies().filter(({ kind }) => kind !== 'login')) {
    const sealed = seal(gatewayId(), session, body)
    const first = await bus.send(session, sealed)
    t.false(first.code === 'nonce_replay' || first.code === 'malformed_body', `${body.kind}: ${first.code}`)
    t.is((await bus.send(session, sealed)).code, 'nonce_replay', body.kind)
  }
})

test('mistake 5: a sign-in is heard once', async (t) => {
  const keys = generateKeyPair()
  const session = { kid: kidOfKey(keys.publicKey), lenser: nilUuid, keys }
  const request = {
    client_secret: stack.issuer.clientSecret,
    subject: 'replayed',
    nonce: session.kid,
    audience: gatewayId(),
  }
  const response = await fetch(`${stack.issuer.url}/token`, { method: 'POST', body: JSON.stringify(request) })
  const { id_token: token } = (await response.json()) as { id_token: string }
  const public_key = Buffer.from(keys.publicKey).toString('base64url')
  const sealed = seal(gatewayId(), session, { kind: 'login', public_key, token })
  t.true((await bus.send(session, sealed)).ok)
  t.is((await bus.send(session, sealed)).code, 'nonce_replay')
})

test('mistake 5: a connection’s envelope opens one connection', async (t) => {
  const { device } = await makeParty(db)
  let token = ''
  const authenticator = (nonce?: string) => {
    const said = { kind: 'connect', server_nonce: nonce ?? '' } as const
    token ||= seal(gatewayId(), device, said).text
    return { auth_token: token, sig: 'any' }
  }
  const nc = await connect({ servers: stack.nats.url, reconnect: false, authenticator })
  t.teardown(() => nc.close())
  const again = connect({ servers: stack.nats.url, reconnect: false, authenticator })
  await t.throwsAsync(again, { name: 'AuthorizationError' })
})

const failuresOf = async (kid: string): Promise<number> => {
  const { port } = JSON.parse(readFileSync(join(stack.dir, 'health', 'verifier.json'), 'utf8')) as { port: number }
  const health = (await (await fetch(`http://127.0.0.1:${port}/readyz`)).json()) as {
    signature_failures: { devices: { kid: string; failures: number }[] }
  }
  return health.signature_failures.devices.find((one) => one.kid === kid)?.failures ?? 0
}

test('mistake 10: a peer’s bad signatures under a victim’s id blame nobody but, at most, the peer', async (t) => {
  const [victim, peer] = [await makeParty(db), await makeParty(db)]
  const permit = await permitOf(bus, victim)
  const before = await effectsOn(db, victim.device.kid)
  const nc = await bus.ears.busOf(peer.device)
  const { lenser, kid } = victim.device
  const forged = Array.from({ length: 20 }, () =>
    seal(gatewayId(), { ...victim.device, keys: peer.device.keys }, heartbeatOf(victim)),
  )
  for (const { bytes } of forged) {
    // Under its own name, which the broker lets through; under the victim's, which it does not.
    nc.publish(inSubject({ ...peer.device, kind: 'heartbeat' }), bytes)
    nc.publish(inSubject({ lenser, kid, kind: 'heartbeat' }), bytes)
  }
  for (const { digest } of forged) t.is((await bus.ears.outcomeOf(digest)).code, 'kid_mismatch')
  t.deepEqual(await effectsOn(db, kid), before)
  t.is(await failuresOf(kid), 0)
  t.is(await failuresOf(peer.device.kid), 0)
  const { privateKey: key } = generateKeyPair()
  t.is((await bus.say(peer.device, heartbeatOf(peer), { key })).code, 'signature_mismatch')
  await until(async () => (await failuresOf(peer.device.kid)) === 1, 'the one failure that names who made it')
  t.like((await bus.say(victim.device, attestationOf(permit))).result, { level: 'fully_trusted' })
})

test('mistake 8: a daemon’s heartbeats are stored one after the other as long as it lives, and its outbox empties', async (t) => {
  t.timeout(180_000)
  const machine = new Machine(stack, 'mistake-8')
  t.teardown(() => machine.end('SIGKILL'))
  const device = await machine.enrol('mistake-8', 'machine')
  const beats = async (): Promise<{ count: number; last: Date }> => {
    const { rows } = await db.query(
      `SELECT count(*)::int AS count, max(h.stored_at) AS last FROM devices.heartbeats h
        WHERE h.device_id = $1 AND h.stored_at <= (SELECT last_heartbeat_at FROM devices.registered_devices WHERE id = $1)`,
      [device],
    )
    return rows[0]
  }
  const grows = async (): Promise<void> => {
    const before = await beats()
    await until(async () => (await beats()).count >= before.count + 3, 'three more heartbeats')
    t.true((await beats()).last > before.last)
  }
  await grows()
  // While nobody verifies, what it has to say waits in its outbox; then it goes by itself.
  t.is(await machine.end('SIGTERM'), 0)
  const silent = await beats()
  await machine.serve()
  await until(async () => (await beats()).count > silent.count, 'a heartbeat of the next daemon')
  await grows()
  const { rows } = await db.query(
    `SELECT event_kind FROM audit.hash_chains WHERE device_id = $1 AND event_kind = 'lifecycle'
     UNION ALL SELECT event_kind FROM audit.pending WHERE device_id = $1 AND event_kind = 'lifecycle'`,
    [device],
  )
  t.true(rows.length >= 3, 'its starts and its stop')
})

test('mistake 10: neither can a device of another account, nor one of the same, be made to look like two', async (t) => {
  const { lenser } = await makeAccount(db)
  const [victim, peer] = [await makeDevice(db, { lenser }), await makeDevice(db, { lenser })]
  const counter = 1_000_000_000_000
  const beat = { kind: 'heartbeat', daemon_version: '1', gateway_status: 'x', counter } as const
  t.true((await bus.say(victim, beat)).ok)
  const copy = seal(gatewayId(), { ...victim, keys: peer.keys }, { ...beat, gateway_status: 'y' })
  t.is((await insider.send(victim, copy)).code, 'signature_mismatch')
  const { rows } = await db.query('SELECT trust_level FROM devices.registered_devices WHERE id = $1', [victim.kid])
  t.deepEqual(rows, [{ trust_level: 'approved' }])
  t.is((await db.query('SELECT FROM devices.identity_forks WHERE device_id = $1', [victim.kid])).rowCount, 0)
})
