import { randomBytes } from 'node:crypto'
import { encodeBase64Url, encodeKey, generateKeyPair, kidOfKey, randomNonce } from '@lenserfight/envelope'
import { makeSession, type Signatory } from '@lenserfight/testkit'
import test from 'ava'
import { type ClaimsDatabase, claimIngress, claimOf, claimsDatabase, seconds } from './_claims.ts'

let db: ClaimsDatabase
test.before(async () => {
  db = await claimsDatabase()
})
test.after.always(() => db?.close())

const doors = { connect: 'ltg_broker_auth', ask: 'ltg_registrar' } as const
type DoorName = keyof typeof doors
/** Which connection a connect is about, as the broker's server says it. */
const connection = { server_id: `N${'A'.repeat(55)}`, client_id: 7 }

const claimAt = async (door: DoorName, signatory: Pick<Signatory, 'kid' | 'keys'>, changed: object = {}) => {
  const claim = {
    kid: signatory.kid,
    kind: door === 'connect' ? 'connect' : 'status',
    nonce: randomNonce(),
    iat: seconds(),
    digest: encodeBase64Url(randomBytes(32)),
    public_key: encodeKey(signatory.keys.publicKey),
    ...(door === 'connect' ? connection : {}),
    ...changed,
  }
  const pool = db.poolAs(doors[door])
  const { rows } = await pool.query<{ claim: { verdict: string } & Record<string, unknown> }>(
    `SELECT devices.fn_claim_${door}($1) AS claim`,
    [claim],
  )
  return { claim, answer: rows[0]?.claim }
}
const verdictAt = async (...args: Parameters<typeof claimAt>): Promise<string | undefined> =>
  (await claimAt(...args)).answer?.verdict

const unknownKey = () => {
  const keys = generateKeyPair()
  return { kid: kidOfKey(keys.publicKey), keys }
}

for (const door of ['connect', 'ask'] as const) {
  test(`RP-1: ${door}: iat is held to 300 s around the database's time`, async (t) => {
    const device = await db.device()
    t.is(await verdictAt(door, device, { iat: seconds() - 295 }), 'ok')
    t.is(await verdictAt(door, device, { iat: seconds() + 295 }), 'ok')
    t.is(await verdictAt(door, device, { iat: seconds() - 305 }), 'iat_window')
    t.is(await verdictAt(door, device, { iat: seconds() + 305 }), 'iat_window')
    t.is(await verdictAt(door, device, { iat: Number.MAX_SAFE_INTEGER }), 'iat_window')
  })

  test(`RP-2: ${door}: a nonce is accepted once, and never again, not even for the same bytes`, async (t) => {
    const device = await db.device()
    const { claim, answer } = await claimAt(door, device)
    t.is(answer?.verdict, 'ok')
    t.is(await verdictAt(door, device, claim), 'nonce_replay')
    t.is(await verdictAt(door, device, { ...claim, iat: claim.iat - 1 }), 'nonce_replay')
    const racing = await Promise.all(
      Array.from({ length: 4 }, () => verdictAt(door, device, { nonce: 'CCCCCCCCCCCCCCCCCCCCCC' })),
    )
    t.deepEqual(racing.toSorted(), ['nonce_replay', 'nonce_replay', 'nonce_replay', 'ok'])
  })

  test(`${door}: a device without a key on record proves nothing with any`, async (t) => {
    const { lenser } = await db.device()
    const { rows } = await db.owner.query<{ id: string }>(
      `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os)
       VALUES ($1, $2, 'ci', 'linux') RETURNING id`,
      [lenser, randomNonce()],
    )
    t.is(await verdictAt(door, { ...unknownKey(), kid: rows[0]?.id as string }), 'key_changed')
  })

  test(`${door}: the answer says who signs, in which state, and what time it is`, async (t) => {
    const device = await db.device('unhealthy')
    const { answer } = await claimAt(door, device)
    t.like(answer, { verdict: 'ok', signer: 'device', lenser_id: device.lenser, trust_level: 'unhealthy' })
    t.true(Math.abs(Number(answer?.time) - seconds()) < 5)
    const session = await makeSession(db.owner, device.lenser)
    const { answer: other } = await claimAt(door, session)
    t.like(other, { verdict: 'ok', signer: 'session', lenser_id: device.lenser, trust_level: null })
  })

  test(`${door}: a key that is no longer the signer's claims nothing`, async (t) => {
    const device = await db.device()
    const nonce = randomNonce()
    t.is(await verdictAt(door, { ...device, keys: generateKeyPair() }, { nonce }), 'key_changed')
    t.is(await verdictAt(door, device, { nonce }), 'ok')
  })

  test(`law 7: ${door}: a claim waits for a revoke in flight and sees it`, async (t) => {
    const device = await db.device()
    const revoking = await db.owner.connect()
    await revoking.query('BEGIN')
    await revoking.query(`UPDATE devices.registered_devices SET trust_level = 'revoked' WHERE id = $1`, [device.kid])
    const claiming = claimAt(door, device)
    t.is(await Promise.race([claiming, new Promise((done) => setTimeout(done, 150, 'waits'))]), 'waits')
    await revoking.query('COMMIT')
    revoking.release()
    t.is((await claiming).answer?.trust_level, 'revoked')
  })
}

test('RP-2: one nonce under two iats at two doors at once: one is accepted', async (t) => {
  const device = await db.device()
  const connecting = await db.poolAs('ltg_broker_auth').connect()
  await connecting.query('BEGIN')
  const claim = {
    ...{ kid: device.kid, kind: 'connect', nonce: randomNonce(), iat: seconds() },
    ...{ digest: encodeBase64Url(randomBytes(32)), public_key: encodeKey(device.keys.publicKey), ...connection },
  }
  const { rows } = await connecting.query('SELECT devices.fn_claim_connect($1) AS claim', [claim])
  t.is(rows[0].claim.verdict, 'ok')
  const asking = verdictAt('ask', device, { nonce: claim.nonce, iat: claim.iat - 9 })
  t.is(await Promise.race([asking, new Promise((done) => setTimeout(done, 150, 'waits'))]), 'waits')
  await connecting.query('COMMIT')
  connecting.release()
  t.is(await asking, 'nonce_replay')
})

test('a nonce spent at one door is spent at the others', async (t) => {
  const device = await db.device()
  const message = claimOf(device)
  t.deepEqual(await claimIngress(db.verifier, [message]), ['ok'])
  t.is(await verdictAt('connect', device, { nonce: message.nonce }), 'nonce_replay')
  const { claim } = await claimAt('connect', device)
  t.is(await verdictAt('ask', device, { nonce: claim.nonce }), 'nonce_replay')
  t.deepEqual(await claimIngress(db.verifier, [claimOf(device, { nonce: claim.nonce })]), ['nonce_replay'])
})

test('every door writes its own name, so a claim of one is none at another', async (t) => {
  const device = await db.device()
  const { claim: connect } = await claimAt('connect', device)
  const { claim: ask } = await claimAt('ask', device)
  const { rows } = await db.owner.query<{ door: string }>(
    'SELECT door FROM devices.envelope_claims WHERE nonce = ANY ($1) ORDER BY door DESC',
    [[connect.nonce, ask.nonce]],
  )
  t.deepEqual(
    rows.map(({ door }) => door),
    ['connect', 'ask'],
  )
})

test('a device in any state may connect and ask its status, and nothing that is an owner’s', async (t) => {
  for (const level of ['pending', 'approved', 'trusted', 'offline', 'unhealthy', 'revoked', 'blocked'] as const) {
    const device = await db.device(level)
    t.is(await verdictAt('connect', device), 'ok', level)
    t.is(await verdictAt('ask', device), 'ok', level)
    for (const kind of ['approve', 'revoke', 'list', 'login']) {
      t.is(await verdictAt('ask', device, { kind }), 'unsupported_kind', `${level} ${kind}`)
    }
    const attested = await verdictAt('ask', device, { kind: 'attestation' })
    t.is(attested, ['pending', 'unhealthy', 'revoked', 'blocked'].includes(level) ? `device_${level}` : 'ok')
  }
})

test('a session that nobody vouched for may connect and log in, under the kid of its own key, and nothing else', async (t) => {
  const key = unknownKey()
  t.like((await claimAt('connect', key)).answer, { verdict: 'ok', signer: 'unknown', lenser_id: null })
  t.is(await verdictAt('ask', key, { kind: 'login' }), 'ok')
  t.is(await verdictAt('ask', key, { kind: 'list' }), 'unknown_session')
  t.is(await verdictAt('connect', { ...key, kid: crypto.randomUUID() }), 'unknown_session')
  t.is(await verdictAt('ask', { ...key, kid: crypto.randomUUID() }, { kind: 'login' }), 'unknown_session')
})

test('a session that is over may log in again, and nothing else', async (t) => {
  const device = await db.device()
  const expired = await makeSession(db.owner, device.lenser)
  const revoked = await makeSession(db.owner, device.lenser)
  await db.owner.query(`UPDATE lensers.sessions SET expires_at = now() - interval '1 s' WHERE kid = $1`, [expired.kid])
  await db.owner.query('UPDATE lensers.sessions SET revoked_at = now() WHERE kid = $1', [revoked.kid])
  for (const session of [expired, revoked]) {
    t.is(await verdictAt('connect', session), 'session_expired')
    t.is(await verdictAt('ask', session, { kind: 'approve' }), 'session_expired')
    t.is(await verdictAt('ask', session, { kind: 'login' }), 'ok')
  }
})

test('each role may claim at its own door alone, and touch no claim otherwise', async (t) => {
  const calls = {
    ltg_verifier: `devices.fn_claim_ingress('{}', '{}', 's', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
    ltg_broker_auth: `devices.fn_claim_connect('{}')`,
    ltg_registrar: `devices.fn_claim_ask('{}')`,
  }
  const roles = [...Object.keys(calls), 'ltg_trust_evaluator', 'ltg_audit_chain']
  for (const role of roles) {
    const pool = db.poolAs(role)
    for (const [owner, call] of Object.entries(calls)) {
      if (owner !== role) await t.throwsAsync(pool.query(`SELECT ${call}`), { code: '42501' }, `${role} ${call}`)
    }
    const forbidden = [
      `devices.fn_claim_once('ingress', '{}')`,
      `devices.fn_claim_signer(NULL)`,
      `devices.fn_claim_lock_nonces('{}', '{}')`,
      `devices.fn_claims_make_partition(0, 900)`,
      ...(role === 'ltg_verifier' ? [] : ['devices.fn_claims_maintain()']),
    ]
    for (const call of forbidden)
      await t.throwsAsync(pool.query(`SELECT ${call}`), { code: '42501' }, `${role} ${call}`)
    for (const statement of [
      'SELECT FROM devices.envelope_claims',
      'DELETE FROM devices.envelope_claims',
      'TRUNCATE devices.envelope_claims',
      'SELECT FROM devices.envelope_claims_default',
      `INSERT INTO devices.envelope_claims (kid, nonce, iat, door, kind, digest, verdict)
         VALUES (gen_random_uuid(), 'x', 1, 'ask', 'x', sha256(''), 'ok')`,
    ]) {
      await t.throwsAsync(pool.query(statement), { code: '42501' }, `${role} ${statement}`)
    }
  }
})
