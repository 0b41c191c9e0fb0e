import { CodedError, type ReasonCode } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { createTokenVerifier } from '../src/token/verify-token.ts'
import { issuerConfig, startIssuer } from './_issuer.ts'

const kid = 'f0000000-0000-8000-8000-000000000001'
const other = 'f0000000-0000-8000-8000-000000000002'

const setUp = async (
  t: ExecutionContext,
  over: { binding?: 'nonce' | 'none'; backs_auth_uid?: boolean; max_age_seconds?: number } = {},
  deadlineMs = 10_000,
) => {
  const issuer = await startIssuer()
  t.teardown(issuer.stop)
  let now = Date.now()
  const verifier = createTokenVerifier({
    issuers: [issuerConfig(issuer.url, over)],
    keySet: { deadlineMs, coolDownMs: 1000, maxAgeMs: 60_000, now: () => now },
    now: () => now,
  })
  const refused = async (token: string | Promise<string>, code: ReasonCode): Promise<CodedError> => {
    const error = await t.throwsAsync(verifier.verify(await token, kid), { instanceOf: CodedError })
    t.is(error?.code, code)
    return error as CodedError
  }
  const pass = (ms: number): void => {
    now += ms
  }
  return { issuer, verifier, refused, pass }
}

test('a token of the issuer, for this gateway and this session key, is accepted under each allowed algorithm', async (t) => {
  const { issuer, verifier } = await setUp(t)
  for (const alg of ['EdDSA', 'ES256', 'RS256'] as const) {
    const exp = Math.floor(Date.now() / 1000) + 60
    const verified = await verifier.verify(await issuer.token({ nonce: kid, exp }, { alg }), kid)
    t.deepEqual(verified, { issuer: issuer.url, subject: 'somebody', expires_at: exp + 60, bound: true })
  }
  t.is(issuer.fetches(), 1)
})

test('token_not_bound: a token for another session key, or for none, is refused', async (t) => {
  const { issuer, refused } = await setUp(t)
  await refused(issuer.token({ nonce: other }), 'token_not_bound')
  await refused(issuer.token({}), 'token_not_bound')
})

test('token_not_bound: where no nonce is required, one that names another key is refused all the same', async (t) => {
  const { issuer, verifier, refused } = await setUp(t, { binding: 'none' })
  t.is((await verifier.verify(await issuer.token({}), kid)).subject, 'somebody')
  await refused(issuer.token({ nonce: other }), 'token_not_bound')
})

test('auth.uid() is backed by one issuer at most, and only its tokens say so', async (t) => {
  const { issuer, verifier } = await setUp(t, { backs_auth_uid: true })
  t.true((await verifier.verify(await issuer.token({ nonce: kid }), kid)).backs_auth_uid)
  const backing = { issuer: 'a', jwks_url: issuer.url, audience: 'x', binding: 'nonce', backs_auth_uid: true } as const
  const error = t.throws(() => createTokenVerifier({ issuers: [backing, { ...backing, issuer: 'b' }] }))
  t.is((error as CodedError).code, 'config_invalid')
})

test('token_invalid: audience, issuer, time, subject, algorithm, key and signature are checked', async (t) => {
  const { issuer, refused } = await setUp(t)
  const good = await issuer.token({ nonce: kid })
  const [head, payload, signature] = good.split('.') as [string, string, string]
  const none = Buffer.from('{"alg":"none"}').toString('base64url')
  const swapped = Buffer.from(
    JSON.stringify({ ...JSON.parse(Buffer.from(payload, 'base64url').toString()), sub: 'somebody else' }),
  ).toString('base64url')
  const cases: [string, string | Promise<string>][] = [
    ['audience', issuer.token({ nonce: kid, aud: 'another-gateway' })],
    ['issuer', issuer.token({ nonce: kid, iss: 'http://127.0.0.1:1' })],
    ['expired', issuer.token({ nonce: kid, exp: Math.floor(Date.now() / 1000) - 61 })],
    ['not yet', issuer.token({ nonce: kid, nbf: Math.floor(Date.now() / 1000) + 120 })],
    ['no end', issuer.token({ nonce: kid, exp: undefined })],
    ['no subject', issuer.token({ nonce: kid, sub: undefined })],
    ['empty subject', issuer.token({ nonce: kid, sub: '' })],
    ['U+0000 in the subject', issuer.token({ nonce: kid, sub: 'a\u0000b' })],
    ['algorithm not allowed', issuer.token({ nonce: kid }, { alg: 'ES384' })],
    ['shared secret', issuer.token({ nonce: kid }, { alg: 'HS256', kid: 'ES256' })],
    ['unknown key', issuer.token({ nonce: kid }, { kid: 'nobody' })],
    ['another claim', `${head}.${swapped}.${signature}`],
    ['no signature', `${none}.${payload}.`],
    ['no token', 'AAAA.AAAA.AAAA'],
  ]
  for (const [name, token] of cases) {
    t.log(name)
    await refused(token, 'token_invalid')
  }
})

test('unavailable: an issuer that fails, is silent, redirects, floods or talks rubbish refuses nobody for good', async (t) => {
  for (const answer of ['error', 'nothing', 'redirect', 'flood', 'rubbish'] as const) {
    const { issuer, verifier, refused, pass } = await setUp(t, {}, answer === 'nothing' ? 1500 : 10_000)
    issuer.answerWith(answer)
    const token = await issuer.token({ nonce: kid })
    await refused(token, 'unavailable')
    await refused(token, 'unavailable')
    t.is(issuer.fetches(), 1, 'it is not asked again at once')
    issuer.answerWith('keys')
    pass(1100)
    t.is((await verifier.verify(token, kid)).subject, 'somebody')
  }
})

test('tokens with keys that nobody knows do not make us ask the issuer each time', async (t) => {
  const { issuer, refused } = await setUp(t)
  for (let i = 0; i < 10; i++) await refused(issuer.token({ nonce: kid }, { kid: `unknown-${i}` }), 'token_invalid')
  t.is(issuer.fetches(), 1)
})

test('SH-3: nothing of a token is in what is thrown', async (t) => {
  const { issuer, refused } = await setUp(t)
  const token = await issuer.token({ nonce: kid, aud: 'another-gateway', sub: 'a-secret-name' })
  const error = await refused(token, 'token_invalid')
  const told = JSON.stringify({ ...error, message: error.message, stack: error.stack, cause: error.cause })
  t.false(told.includes('a-secret-name'))
  t.false(told.includes(token.slice(0, 20)))
})
