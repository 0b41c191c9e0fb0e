import { randomUUID } from 'node:crypto'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import test from 'ava'
import { codeOf, type Key, newKey, operation, resultOf, token, useWorld } from './_world.ts'

const world = useWorld(test)

/** A token of an issuer that binds none to a session key. */
const unbound = (subject: string, over: object = {}) => {
  const { bound: _, ...claims } = token(subject)
  return { ...claims, ...over }
}
const jwt = (signed = randomUUID(), signature = 'signature'): string =>
  `head.${signed.replaceAll('-', '')}.${signature}`
const login = (key: Key, claims: object, text: string) => world().login(key, claims, { ...operation(), token: text })
const usesOf = (issuer: string) => world().query('SELECT FROM lensers.token_uses WHERE issuer = $1', [issuer])

test('token_not_bound: a token that names no key is the first key’s that presents it', async (t) => {
  const [first, second] = [newKey(), newKey()]
  const text = jwt()
  const { lenser_id } = resultOf(await login(first, unbound('sam'), text))
  t.is(codeOf(await login(second, unbound('sam'), text)), 'token_not_bound')
  t.is(resultOf(await login(first, unbound('sam'), text)).lenser_id, lenser_id, 'the same key again')
  t.is(codeOf(await login(second, unbound('sam'), jwt())), 'ok', 'a token of its own')
})

test('token_not_bound: another spelling of the signature is the same token', async (t) => {
  const signed = randomUUID()
  t.is(codeOf(await login(newKey(), unbound('sam'), jwt(signed, 'one'))), 'ok')
  t.is(codeOf(await login(newKey(), unbound('sam'), jwt(signed, 'two'))), 'token_not_bound')
})

test('a token that names its key is not counted, and one that says nothing of it is', async (t) => {
  const issuer = `https://${randomUUID()}.test`
  resultOf(await login(newKey(), { ...token('sam'), issuer }, jwt()))
  t.is((await usesOf(issuer)).length, 0)
  for (const bound of [undefined, false, 'true', 1, null]) {
    const text = jwt()
    t.is(codeOf(await login(newKey(), unbound('sam', { issuer, bound }), text)), 'ok')
    t.is(codeOf(await login(newKey(), unbound('sam', { issuer, bound }), text)), 'token_not_bound', String(bound))
  }
})

test('at once by many keys, one has it', async (t) => {
  for (let round = 0; round < 5; round++) {
    const text = jwt()
    const logins = Array.from({ length: 6 }, () => login(newKey(), unbound('race'), text))
    const codes = (await Promise.all(logins)).map(codeOf).sort()
    t.deepEqual(codes, ['ok', ...Array.from({ length: 5 }, () => 'token_not_bound')])
  }
})

test('a refused token is taken from nobody', async (t) => {
  const text = jwt()
  const key = newKey()
  const late = { expires_at: Math.floor(Date.now() / 1000) - 1 }
  t.is(codeOf(await login(newKey(), unbound('sam', late), text)), 'token_invalid')
  t.is(codeOf(await login(newKey(), { refused: 'token_invalid' }, text)), 'token_invalid')
  const body = { op_id: newUuidV7(), public_key: encodeKey(newKey().publicKey), token: text }
  t.is(codeOf(await world().login(key, unbound('sam'), body)), 'kid_mismatch')
  t.is(codeOf(await login(newKey(), unbound('sam'), text)), 'ok')
})
