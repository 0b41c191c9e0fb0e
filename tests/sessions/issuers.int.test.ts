import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { Machine, type Ran } from '../e2e/_machine.ts'

const issuer = 'https://project.platform.test/auth/v1'
const secret = randomBytes(32).toString('base64url')
const folder = mkdtempSync(join(tmpdir(), 'ltg-issuer-'))

let stack: Stack
test.before(async (t) => {
  t.timeout(60_000)
  const secret_file = join(folder, 'secret')
  writeFileSync(secret_file, secret, { mode: 0o600 })
  const platform = { issuer, audience: 'authenticated', secret_file, binding: 'none', backs_auth_uid: true }
  stack = await testStack({
    replicas: { verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 },
    extra: { registrar: { issuers: [platform] } },
  })
})
test.after.always(async () => {
  rmSync(folder, { recursive: true, force: true })
  await stack?.stop()
})

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
/** A token as the platform's sign-in gives it (RFC 7519, HS256). */
const platformToken = (sub: string, claims: object = {}): string => {
  const iat = Math.floor(Date.now() / 1000)
  const times = { iat, exp: iat + 3600 }
  const payload = {
    iss: issuer,
    aud: 'authenticated',
    sub,
    role: 'authenticated',
    ...times,
    session_id: randomUUID(),
    ...claims,
  }
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(payload)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
const signIn = (machine: Machine, token: string): Promise<Ran> =>
  machine.lf(['login', '--gateway', stack.descriptorFile, '--token-file', '-', '--json'], token)

test('token_not_bound: a platform’s token signs in once, and another key that presents it gets nothing', async (t) => {
  t.timeout(120_000)
  const [mine, thief] = [new Machine(stack, 'mine'), new Machine(stack, 'thief')]
  const person = randomUUID()
  const token = platformToken(person)
  const first = await signIn(mine, token)
  t.is(first.code, 0, first.stderr)
  const taken = await signIn(thief, token)
  t.deepEqual([taken.code, taken.stderr.split(':')[0]], [2, 'token_not_bound'])
  const second = await signIn(thief, platformToken(person))
  const lenserOf = ({ stdout }: Ran): unknown => (JSON.parse(stdout) as { lenser_id: string }).lenser_id
  t.is(lenserOf(second), lenserOf(first), 'a token of its own is of the same account')
})

test('token_invalid: what the platform gives to nobody signs nobody in', async (t) => {
  t.timeout(120_000)
  const machine = new Machine(stack, 'nobody')
  for (const role of ['anon', 'service_role']) {
    const refused = await signIn(machine, platformToken(randomUUID(), { role }))
    t.deepEqual([refused.code, refused.stderr.split(':')[0]], [2, 'token_invalid'], role)
  }
})
