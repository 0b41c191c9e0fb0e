import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CodedError, type ReasonCode } from '@lenserfight/schemas'
import test, { type ExecutionContext } from 'ava'
import { SignJWT } from 'jose'
import { createTokenVerifier } from '../src/token/verify-token.ts'
import { issuerConfig, secretIssuerConfig, startIssuer } from './_issuer.ts'

const kid = 'f0000000-0000-8000-8000-000000000001'
const platform = 'https://project.platform.test/auth/v1'
const secret = 'the-secret-that-the-platform-shares-with-us'

const secretFile = (t: ExecutionContext, text = secret): string => {
  const dir = mkdtempSync(join(tmpdir(), 'issuer-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const file = join(dir, 'secret')
  writeFileSync(file, `${text}\n`, { mode: 0o600 })
  return file
}

/** A token as the platform's sign-in gives it; `undefined` takes a claim away. */
const platformToken = (claims: Record<string, unknown> = {}, { alg = 'HS256', key = secret } = {}): Promise<string> => {
  const now = Math.floor(Date.now() / 1000)
  const payload = {
    ...{ iss: platform, aud: 'authenticated', sub: randomUUID(), role: 'authenticated', session_id: randomUUID() },
    ...{ iat: now, exp: now + 3600, aal: 'aal1', is_anonymous: false },
    ...claims,
  }
  const given = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))
  return new SignJWT(given).setProtectedHeader({ alg, typ: 'JWT' }).sign(new TextEncoder().encode(key))
}

const refuses = async (
  t: ExecutionContext,
  verifier: ReturnType<typeof createTokenVerifier>,
  token: string | Promise<string>,
  code: ReasonCode = 'token_invalid',
) => t.is((await t.throwsAsync(verifier.verify(await token, kid), { instanceOf: CodedError }))?.code, code)

const setUp = (t: ExecutionContext) =>
  createTokenVerifier({ issuers: [{ ...secretIssuerConfig(platform, secretFile(t)), backs_auth_uid: true }] })

test('a token of the platform, signed with the shared secret, is accepted, and is bound to no key', async (t) => {
  const verifier = setUp(t)
  const sub = randomUUID()
  const verified = await verifier.verify(await platformToken({ sub }), kid)
  const { expires_at, ...rest } = verified
  t.deepEqual(rest, { issuer: platform, subject: sub, backs_auth_uid: true })
  t.true(Math.abs(expires_at - Date.now() / 1000 - 3660) < 30)
})

test('token_invalid: the keys of nobody (anon, service_role), other audiences, secrets and algorithms', async (t) => {
  const verifier = setUp(t)
  const unsigned = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')
  const payload = (await platformToken()).split('.')[1]
  const cases: [string, string | Promise<string>][] = [
    ['anon', platformToken({ role: 'anon' })],
    ['service_role', platformToken({ role: 'service_role' })],
    ['supabase_admin', platformToken({ role: 'supabase_admin' })],
    ['audience', platformToken({ aud: 'a-gateway' })],
    ['another secret', platformToken({}, { key: 'another-secret-that-is-as-long-as-the-first' })],
    ['HS512', platformToken({}, { alg: 'HS512', key: secret.repeat(2) })],
    ['HS384', platformToken({}, { alg: 'HS384', key: secret.repeat(2) })],
    ['no signature', `${unsigned}.${payload}.`],
    ['issued at no time', platformToken({ iat: undefined })],
    ['issued in the future', platformToken({ iat: Math.floor(Date.now() / 1000) + 120 })],
    ['no end', platformToken({ exp: undefined })],
  ]
  for (const [name, token] of cases) {
    t.log(name)
    await refuses(t, verifier, token)
  }
})

test('a token counts as long as its issuer may let it, and the clocks may differ by 60 s', async (t) => {
  const seconds = Math.floor(Date.now() / 1000)
  const now = (): number => seconds * 1000
  const issuers = [{ ...secretIssuerConfig(platform, secretFile(t)), max_age_seconds: 600 }]
  const verifier = createTokenVerifier({ issuers, now })
  const year = seconds + 365 * 24 * 3600
  const { expires_at } = await verifier.verify(await platformToken({ iat: seconds - 600, exp: year }), kid)
  t.is(expires_at, seconds + 60, 'ten minutes after its issue, whatever it says itself')
  await verifier.verify(await platformToken({ iat: seconds - 660, exp: year }), kid)
  await refuses(t, verifier, platformToken({ iat: seconds - 661, exp: year }))
  await verifier.verify(await platformToken({ iat: seconds + 60 }), kid)
  await refuses(t, verifier, platformToken({ iat: seconds + 61 }))
  await verifier.verify(await platformToken({ iat: seconds - 300, exp: seconds - 59 }), kid)
  await refuses(t, verifier, platformToken({ iat: seconds - 300, exp: seconds - 60 }))
})

test('algorithm confusion: a public key is no secret, and a secret is no key of a key set', async (t) => {
  const issuer = await startIssuer()
  t.teardown(issuer.stop)
  const verifier = createTokenVerifier({
    issuers: [issuerConfig(issuer.url), secretIssuerConfig(platform, secretFile(t))],
  })
  t.is((await verifier.verify(await issuer.token({ nonce: kid }), kid)).issuer, issuer.url)
  for (const alg of ['RS256', 'ES256', 'EdDSA'] as const) {
    for (const bytes of await issuer.publicKeyBytes(alg)) {
      // Signed with what everybody can read, under the name of the key that it was read from.
      await refuses(t, verifier, issuer.token({ nonce: kid }, { alg: 'HS256', kid: alg, secret: bytes }))
    }
  }
  // Our secret vouches for its own issuer alone, and a good key of another issuer not for the platform.
  const own = new TextEncoder().encode(secret)
  await refuses(t, verifier, issuer.token({ nonce: kid }, { alg: 'HS256', secret: own }))
  const platforms = { iss: platform, aud: 'authenticated' }
  for (const alg of ['RS256', 'ES256', 'EdDSA'] as const) await refuses(t, verifier, issuer.token(platforms, { alg }))
  await verifier.verify(await issuer.token(platforms, { alg: 'HS256', secret: own }), kid)
})

test('config_invalid: an issuer twice, a short secret, a secret that is not there', (t) => {
  const codeOf = (...issuers: Parameters<typeof createTokenVerifier>[0]['issuers']) => {
    const error = t.throws(() => createTokenVerifier({ issuers }), { instanceOf: CodedError })
    t.false(`${error?.message}${error?.stack}`.includes('too short'), 'the secret is not told')
    return error?.code
  }
  const good = secretIssuerConfig(platform, secretFile(t))
  t.is(codeOf(good, good), 'config_invalid')
  t.is(codeOf(good, { ...issuerConfig('http://127.0.0.1:1'), issuer: platform }), 'config_invalid')
  t.is(codeOf(secretIssuerConfig(platform, secretFile(t, `too short ${'x'.repeat(21)}`))), 'config_invalid')
  t.is(codeOf(secretIssuerConfig(platform, join(tmpdir(), 'no-such-secret'))), 'config_invalid')
  t.notThrows(() => createTokenVerifier({ issuers: [secretIssuerConfig(platform, secretFile(t, 'x'.repeat(32)))] }))
})
