import { setTimeout as sleep } from 'node:timers/promises'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { kinds, kindsInScope, kindsOf, limits } from '@lenserfight/schemas'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import {
  codeOf,
  type Key,
  newKey,
  operation,
  resultOf,
  type Session,
  type Signed,
  sign,
  token,
  useWorld,
} from './_world.ts'

const world = useWorld(test)

const creation = (key: Key, members: object = {}) =>
  operation({
    ...{ name: `key ${key.kid.slice(0, 8)}`, may_approve: false, expires_in_days: 90 },
    public_key: encodeKey(key.publicKey),
    ...members,
  })
const create = (session: Session, key: Key, members: object = {}): Promise<Outcome> =>
  world().ask(session, 'api_key_create', creation(key, members))
/** An API key of a session's account. */
const newApiKey = async (session: Session, members: object = {}): Promise<Session> => {
  const key = newKey()
  resultOf(await create(session, key, members))
  return { ...key, lenser: session.lenser }
}
/** As if the claim function had let an envelope in. */
const letIn = (signed: Signed, kind: string, lenser: string) =>
  world().query(
    `INSERT INTO devices.envelope_claims (kid, nonce, iat, door, kind, digest, verdict, lenser_id)
     VALUES ($1, $2, $3, 'ask', $4, $5, 'ok', $6)`,
    [signed.signer.kid, signed.nonce, signed.iat, kind, Buffer.from(signed.digest), lenser],
  )
const revoke = (asker: Session, session: string) =>
  world().ask(asker, 'session_revoke', operation({ session })).then(resultOf)

test('api_key_create: an API key speaks for the account in its scope, from its first request on', async (t) => {
  const session = await world().newSession()
  const key = newKey()
  const made = resultOf(await create(session, key, { name: 'ci', expires_in_days: 7 }))
  const { created_at, expires_at, ...shown } = made as { created_at: number; expires_at: number }
  t.deepEqual(shown, { session: key.kid, kind: 'api_key', name: 'ci', machine: null, scope: 'api', revoked_at: null })
  t.is(expires_at, created_at + 7 * 24 * 3600)
  const api: Session = { ...key, lenser: session.lenser }
  const device = await world().register(api)
  t.like(resultOf(await world().ask(api, 'status', {})), {
    ...{ lenser_id: session.lenser, kind: 'api_key', name: 'ci', scope: 'api', devices: 1 },
  })
  resultOf(await world().answerChallenge(device))
  t.is(codeOf(await world().approve(api, device)), 'not_permitted')
  const approver = await newApiKey(session, { may_approve: true })
  t.is(codeOf(await world().approve(approver, device)), 'ok')
})

test('api_key_create: the gateway holds nothing that could sign', async (t) => {
  const session = await world().newSession()
  const key = await newApiKey(session)
  const [row] = await world().query<{ text: string }>('SELECT s::text AS text FROM lensers.sessions s WHERE kid = $1', [
    key.kid,
  ])
  const seed = Buffer.from(key.key)
  for (const form of ['hex', 'base64', 'base64url'] as const) t.false(row?.text.includes(seed.toString(form)))
  t.true(row?.text.includes(Buffer.from(key.publicKey).toString('hex')))
})

test('api_key_create: asking again gives the same key, other content under its op_id none', async (t) => {
  const session = await world().newSession()
  const key = newKey()
  const members = creation(key)
  const first = resultOf(await world().ask(session, 'api_key_create', members))
  t.deepEqual(resultOf(await world().ask(session, 'api_key_create', members)), first)
  t.is(codeOf(await world().ask(session, 'api_key_create', { ...members, may_approve: true })), 'op_id_conflict')
})

test('api_key_name_taken: a name is one living key’s, and free when that ended', async (t) => {
  const [session, other] = [await world().newSession(), await world().newSession()]
  const first = await newApiKey(session, { name: 'deploy' })
  t.is(codeOf(await create(session, newKey(), { name: 'deploy' })), 'api_key_name_taken')
  t.is(codeOf(await create(other, newKey(), { name: 'deploy' })), 'ok', 'other accounts have their own')
  await revoke(session, first.kid)
  const second = await newApiKey(session, { name: 'deploy' })
  await world().query("UPDATE lensers.sessions SET expires_at = now() - interval '1 s' WHERE kid = $1", [second.kid])
  t.is(codeOf(await create(session, newKey(), { name: 'deploy' })), 'ok')
})

test('api_key_limit, api_key_name_taken: also of those made at once', async (t) => {
  const session = await world().newSession()
  const named = await Promise.all(Array.from({ length: 6 }, () => create(session, newKey(), { name: 'same' })))
  t.deepEqual(named.map(codeOf).sort(), [...Array.from({ length: 5 }, () => 'api_key_name_taken'), 'ok'])
  await world().query(
    `INSERT INTO lensers.sessions (kid, public_key, lenser_id, scope, name, expires_at)
     SELECT devices.fn_kid_of_key(key), key, $1, 'api', 'key ' || n, now() + interval '1 day'
       FROM generate_series(4, $2::int) AS n, sha256(('limit' || n)::bytea) AS key`,
    [session.lenser, limits.apiKeysPerLenser],
  )
  const codes = (await Promise.all(Array.from({ length: 6 }, () => create(session, newKey())))).map(codeOf)
  t.deepEqual(codes.sort(), [...Array.from({ length: 4 }, () => 'api_key_limit'), 'ok', 'ok'])
})

test('api_key_limit: names and keys of an account are counted one request at a time', async (t) => {
  const session = await world().newSession()
  const holder = await world().owner.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM lensers.profiles WHERE id = $1 FOR NO KEY UPDATE', [session.lenser])
  let returned = false
  const creating = create(session, newKey()).then((outcome) => {
    returned = true
    return outcome
  })
  await sleep(500)
  t.false(returned)
  await holder.query('COMMIT')
  holder.release()
  t.is(codeOf(await creating), 'ok')
})

test('malformed_body: a key that is somebody’s session already makes nobody else’s API key', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const ended = await newApiKey(mine)
  await revoke(mine, ended.kid)
  for (const key of [theirs, mine, ended]) t.is(codeOf(await create(mine, key)), 'malformed_body')
  t.is(codeOf(await world().ask(theirs, 'sessions', {})), 'ok')
  const [row] = await world().query<{ scope: string }>('SELECT scope FROM lensers.sessions WHERE kid = $1', [
    theirs.kid,
  ])
  t.is(row?.scope, 'owner')
})

test('malformed_body: nobody makes one that lives longer than it may, whatever the registrar let through', async (t) => {
  const session = await world().newSession()
  for (const days of [0, -1, limits.apiKeyMaxDays + 1, 2 ** 40]) {
    t.is(codeOf(await create(session, newKey(), { expires_in_days: days })), 'malformed_body', String(days))
  }
})

test('session_expired: an API key that was revoked or expired asks for nothing', async (t) => {
  const session = await world().newSession()
  const [revoked, expired] = [await newApiKey(session), await newApiKey(session)]
  await revoke(session, revoked.kid)
  await world().query("UPDATE lensers.sessions SET expires_at = now() - interval '1 s' WHERE kid = $1", [expired.kid])
  for (const key of [revoked, expired]) t.is(codeOf(await world().ask(key, 'list', {})), 'session_expired')
})

test('not_permitted: what is no API key’s to ask, its claim refuses and, that wall down, the function', async (t) => {
  const session = await world().newSession()
  for (const scope of ['api', 'api_approver'] as const) {
    const key = await newApiKey(session, { may_approve: scope === 'api_approver' })
    const allowed = new Set<string>(kindsInScope(scope))
    const forbidden = kindsInScope('owner').filter((kind) => !allowed.has(kind))
    t.true(
      forbidden.includes('api_key_create') && forbidden.includes('session_revoke') && forbidden.includes('sessions'),
    )
    for (const kind of forbidden) {
      const members = operation({ session: session.kid, device_id: newUuidV7(), ...creation(newKey()) })
      const signed = sign(key, kind, members)
      t.is(await world().claim(signed), 'not_permitted', kind)
      const passed = sign(key, kind, members)
      await letIn(passed, kind, session.lenser)
      t.is(codeOf(await world().store.apply(kind, passed.text)), 'not_permitted', `${scope}: ${kind}`)
    }
  }
  const { sessions } = resultOf(await world().ask(session, 'sessions', {})) as { sessions: unknown[] }
  t.is(sessions.length, 3, 'nothing was made or ended')
})

test('not_permitted: an API key signs nobody in, whichever wall is down', async (t) => {
  const session = await world().newSession()
  const key = await newApiKey(session)
  const refused = sign(key, 'login', {
    ...operation(),
    public_key: encodeKey(key.publicKey),
    token: 'aaaaaa.bbbbbb.cccccc',
  })
  t.is(await world().claim(refused), 'not_permitted', 'the claim')
  const passed = sign(key, 'login', {
    ...operation(),
    public_key: encodeKey(key.publicKey),
    token: 'aaaaaa.bbbbbb.cccccc',
  })
  await letIn(passed, 'login', session.lenser)
  t.is(codeOf(await world().store.login(passed.text, token('somebody else'))), 'not_permitted', 'the function')
  t.is(codeOf(await world().ask(key, 'list', {})), 'ok')
})

test('not_permitted: a device and a session of another account get no API key either', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  const outcome = await world().ask(device, 'api_key_create', creation(newKey()))
  t.is(codeOf(outcome), 'unsupported_kind')
  t.is(codeOf(await create({ ...newKey(), lenser: session.lenser }, newKey())), 'unknown_session')
})

test('every request that an owner may make is one of the registrar’s, or of the login', (t) => {
  const known = new Set<string>(kindsInScope('owner'))
  const ofSessions = kindsOf('ask').filter((kind) => (kinds[kind].signers as readonly string[]).includes('session'))
  for (const kind of ofSessions) t.true(known.has(kind) || kind === 'login', kind)
})
