import { generateKeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import {
  type DeviceLevel,
  deviceLevels,
  limits,
  nilUuid,
  type ReasonCode,
  reasonCodes,
  type SessionScope,
  sessionScopes,
} from '@lenserfight/schemas'
import { createUser } from '@nats-io/nkeys'
import test from 'ava'
import fc from 'fast-check'
import {
  admit,
  type CalloutRequest,
  type ConnectClaim,
  createJwtSigner,
  createRateBound,
  permissionsFor,
  readConnect,
  refuseConnection,
  secondsLeft,
} from '../src/index.ts'

const gatewayId = newUuidV7()
const lenser = newUuidV7()
const kid = newUuidV7()
const pair = generateKeyPair()
const nonce = 'serverNonce12'

const request = (token: string, serverNonce = nonce): CalloutRequest => ({
  serverId: 'NSERVER',
  clientId: 7,
  userNkey: createUser().getPublicKey(),
  serverNonce,
  token,
})
const connectOf = (body: object = {}): string => {
  const whole = { kind: 'connect', aud: gatewayId, server_nonce: nonce, ...body }
  return Buffer.from(signEnvelope({ kid, key: pair.privateKey, body: whole }).bytes).toString()
}
const codeOf = (result: object): string | undefined => ('code' in result ? String(result.code) : undefined)

test('a connect must be an envelope of that kind, for this gateway and this very connection', (t) => {
  t.is(codeOf(readConnect(request(connectOf()), gatewayId)), undefined)
  t.is(codeOf(readConnect(request(''), gatewayId)), 'malformed_envelope')
  t.is(codeOf(readConnect(request(connectOf(), 'anotherNonce'), gatewayId)), 'nonce_replay')
  t.is(codeOf(readConnect(request(connectOf(), ''), gatewayId)), 'nonce_replay', 'no nonce was told')
  t.is(codeOf(readConnect(request(connectOf({ aud: newUuidV7() })), gatewayId)), 'audience_mismatch')
  t.is(codeOf(readConnect(request(connectOf({ kind: 'heartbeat' })), gatewayId)), 'kind_mismatch')
  t.is(codeOf(readConnect(request(connectOf({ extra: 1 })), gatewayId)), 'malformed_body')
  const large = connectOf({ extra: 'x'.repeat(limits.connectBytes) })
  t.is(codeOf(readConnect(request(large), gatewayId)), 'malformed_envelope', 'larger than a connect may be')
})

const claim = (change: Partial<ConnectClaim>): ConnectClaim => ({
  verdict: 'ok',
  signer: 'device',
  lenser_id: lenser,
  trust_level: 'approved',
  key_expired: false,
  key_seconds_left: 90 * 24 * 3600,
  scope: null,
  ...change,
})

test('whatever the claim says, nobody gets a wildcard to publish or another’s subjects', (t) => {
  const verdicts = [...reasonCodes, 'ok', 'key_changed'] as (ReasonCode | 'ok' | 'key_changed')[]
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.constantFrom(...verdicts),
        fc.constantFrom('device' as const, 'session' as const, 'unknown' as const),
        fc.constantFrom<DeviceLevel | null>(...deviceLevels, null),
        fc.constantFrom(lenser, null),
        fc.constantFrom<SessionScope | null>(...sessionScopes, null),
        fc.boolean(),
        (verdict, signer, trust_level, lenser_id, scope, key_expired) => {
          const change = { verdict, signer, trust_level, lenser_id, scope, key_expired }
          const decided = permissionsFor(kid, claim(change))
          if ('code' in decided) return true
          const { publish, subscribe } = decided.permissions
          const names = [lenser, nilUuid].flatMap((account) => [`.${account}.${kid}.`])
          return (
            publish.every((subject) => /^ltg\.v1\.(in|ask)\./.test(subject) && !/[*>]/.test(subject)) &&
            publish.every((subject) => names.some((name) => subject.includes(name))) &&
            subscribe.every((subject) => !subject.includes('>') && /^ltg\.v1\.(out|ctl)\./.test(subject)) &&
            (verdict === 'ok' || signer === 'unknown' || publish.every((subject) => subject.endsWith('.status')))
          )
        },
      ),
    ),
  )
})

test('a device whose key is past its end may publish what an unhealthy one may, and never more than its state allows', (t) => {
  const publishOf = (change: Partial<ConnectClaim>) => {
    const decided = permissionsFor(kid, claim(change))
    return 'code' in decided ? decided.code : decided.permissions.publish
  }
  const unhealthy = publishOf({ trust_level: 'unhealthy' })
  t.false(String(unhealthy).includes('run_start'))
  for (const trust_level of ['approved', 'trusted', 'offline'] as const) {
    t.true(String(publishOf({ trust_level })).includes('run_start'))
    t.deepEqual(publishOf({ trust_level, key_expired: true }), unhealthy)
  }
  for (const trust_level of ['pending', 'unhealthy', 'revoked', 'blocked'] as const)
    t.deepEqual(publishOf({ trust_level, key_expired: true }), publishOf({ trust_level }))
})

test('a replayed connect and a session that is none are refused', (t) => {
  t.is(codeOf(permissionsFor(kid, claim({ verdict: 'nonce_replay' }))), 'nonce_replay')
  t.is(codeOf(permissionsFor(kid, claim({ verdict: 'unknown_session', signer: 'unknown' }))), 'unknown_session')
})

test('a clock that is set back keeps nobody out', (t) => {
  const { now } = Date
  let back = 0
  Date.now = () => now() - back
  try {
    const mayPass = createRateBound(10)
    t.true(mayPass())
    back = 3600_000
    t.true(mayPass())
  } finally {
    Date.now = now
  }
})

const payloadOf = (jwt: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(jwt.split('.')[1] as string, 'base64url').toString())

test('a user JWT lives 30 to 60 minutes, for one account, with no leave to answer', (t) => {
  const signer = createJwtSigner(new Uint8Array(32).fill(7))
  const asked = request('')
  const lifetimes = new Set<number>()
  for (let n = 0; n < 50; n++) {
    const response = payloadOf(admit(signer, asked, { kid, permissions: { publish: ['a'], subscribe: [] } }))
    t.like(response, { aud: 'NSERVER', sub: asked.userNkey })
    const user = payloadOf((response.nats as { jwt: string }).jwt) as unknown as {
      iat: number
      exp: number
      nats: Record<string, unknown>
    }
    t.like(user, { aud: 'EDGE', sub: asked.userNkey, name: kid })
    t.like(user.nats, { pub: { allow: ['a'] }, sub: { deny: ['>'] }, payload: limits.userPayloadBytes })
    t.false('resp' in user.nats)
    lifetimes.add(user.exp - user.iat)
  }
  for (const life of lifetimes) t.true(life >= 1800 && life <= 3600)
  t.true(lifetimes.size > 10, 'with jitter')
})

test('a grant lasts no longer than its key: a device’s where its end takes something, a session’s own, a login’s two minutes', (t) => {
  const now = Math.floor(Date.now() / 1000)
  const known = { kid, lenserId: lenser, publicKey: pair.publicKey }
  const left = (change: Partial<ConnectClaim>, expiresAt?: number) =>
    secondsLeft(claim(change), { ...known, ...(expiresAt === undefined ? {} : { expiresAt }) }, now)
  for (const trust_level of ['approved', 'trusted', 'offline'] as const) {
    t.is(left({ trust_level, key_seconds_left: 7 }), 7)
    t.is(left({ trust_level, key_expired: true, key_seconds_left: null }), undefined, 'it has what is left of it')
  }
  for (const trust_level of ['pending', 'unhealthy', 'revoked', 'blocked'] as const)
    t.is(left({ trust_level, key_seconds_left: 7 }), undefined)
  const session = { signer: 'session', trust_level: null, key_seconds_left: null } as const
  t.is(left(session, now + 60), 60)
  t.is(left({ ...session, verdict: 'session_expired' }, now - 60), undefined, 'one that has ended gets in to ask why')
  t.is(left(session, now - 1), 1, 'it has not for the database, whose clock is behind ours')
  t.is(left({ ...session, verdict: 'iat_window' }, now + 60), 60)
  t.is(left({ signer: 'unknown', trust_level: null, key_seconds_left: null }), limits.loginConnectionSeconds)
})

test('a user JWT ends with its grant; a refusal admits nobody', (t) => {
  const signer = createJwtSigner(new Uint8Array(32).fill(7))
  const grant = { kid, permissions: { publish: [], subscribe: [] } }
  const lifeOf = (seconds: number): number => {
    const response = payloadOf(admit(signer, request(''), { ...grant, seconds }))
    const { exp, iat } = payloadOf((response.nats as { jwt: string }).jwt) as { exp: number; iat: number }
    return exp - iat
  }
  t.is(lifeOf(60), 60)
  t.is(lifeOf(1), 1)
  t.true(lifeOf(90 * 24 * 3600) <= limits.userJwtMaxSeconds)
  const refused = payloadOf(refuseConnection(signer, request(''), 'unknown_device')).nats as object
  t.like(refused, { error: 'unknown_device' })
  t.false('jwt' in refused)
})
