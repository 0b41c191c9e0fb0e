import { randomUUID } from 'node:crypto'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { codeOf, newKey, operation, resultOf, sign, token, useWorld } from './_world.ts'

const world = useWorld(test)

test('a login makes the account of issuer and subject once, and a session of its key', async (t) => {
  const [one, two] = [newKey(), newKey()]
  const first = resultOf(await world().login(one, token('sam')))
  const second = resultOf(await world().login(two, token('sam')))
  t.is(first.lenser_id, second.lenser_id)
  t.is(first.session, one.kid)
  const expected = Date.now() / 1000 + limits.sessionSeconds
  t.true(Math.abs((first.expires_at as number) - expected) < 60)
  const other = resultOf(await world().login(newKey(), { ...token('sam'), issuer: 'https://other.test' }))
  t.not(other.lenser_id, first.lenser_id)
})

test('user_id is the subject of the issuer that backs auth.uid() alone, whoever logs in first', async (t) => {
  const subject = randomUUID()
  const theirs = resultOf(await world().login(newKey(), { ...token(subject), issuer: 'https://other.test' }))
  const mine = resultOf(await world().login(newKey(), { ...token(subject), backs_auth_uid: true }))
  const named = resultOf(await world().login(newKey(), token('a name')))
  const users = await world().query<{ id: string; user_id: string }>('SELECT id, user_id FROM lensers.profiles')
  const userOf = (login: Record<string, unknown>) => users.find(({ id }) => id === login.lenser_id)?.user_id
  t.is(userOf(mine), subject)
  t.regex(userOf(theirs) ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-8/)
  t.regex(userOf(named) ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-8/)
})

test('two first logins of one person at once make one account', async (t) => {
  const logins = await Promise.all(Array.from({ length: 6 }, () => world().login(newKey(), token('both at once'))))
  t.is(new Set(logins.map((login) => resultOf(login).lenser_id)).size, 1)
})

test('a login sent again gives its result again, also when its token expired since', async (t) => {
  const key = newKey()
  const members = operation()
  const first = resultOf(await world().login(key, token('again'), members))
  t.deepEqual(resultOf(await world().login(key, token('again'), members)), first)
  t.deepEqual(resultOf(await world().login(key, { refused: 'token_invalid' }, members)), first)
  t.is((await world().query('SELECT FROM lensers.sessions WHERE kid = $1', [key.kid])).length, 1)
})

test('token_invalid, token_not_bound: nobody gets in, and the same operation may still succeed', async (t) => {
  const key = newKey()
  const members = operation()
  const expired = { ...token('late'), expires_at: Math.floor(Date.now() / 1000) - 1 }
  for (const [claims, code] of [
    [{ refused: 'token_invalid' }, 'token_invalid'],
    [{ refused: 'token_not_bound' }, 'token_not_bound'],
    [expired, 'token_invalid'],
    [{}, 'token_invalid'],
    [{ ...token('x'), subject: '' }, 'token_invalid'],
    [{ issuer: 'https://issuer.test', subject: 'no end' }, 'token_invalid'],
  ] as const) {
    t.is(codeOf(await world().login(key, claims, members)), code)
  }
  t.is((await world().query('SELECT FROM lensers.sessions WHERE kid = $1', [key.kid])).length, 0)
  t.is(codeOf(await world().login(key, token('late'), members)), 'ok')
})

test('not_owner: a session key speaks for one account alone', async (t) => {
  const key = newKey()
  resultOf(await world().login(key, token('first')))
  t.is(codeOf(await world().login(key, token('second'))), 'not_owner')
  t.is(codeOf(await world().login(key, token('first'))), 'ok')
})

test('session_expired: an ended session asks for nothing; signing in anew revives an expired one, never a revoked one', async (t) => {
  const session = await world().newSession('ending')
  await world().query("UPDATE lensers.sessions SET expires_at = now() - interval '1 s' WHERE kid = $1", [session.kid])
  t.is(codeOf(await world().ask(session, 'list', {})), 'session_expired')
  t.is(codeOf(await world().login(session, token('ending'))), 'ok')
  t.is(codeOf(await world().ask(session, 'list', {})), 'ok')
  await world().query('UPDATE lensers.sessions SET revoked_at = now() WHERE kid = $1', [session.kid])
  t.is(codeOf(await world().login(session, token('ending'))), 'session_expired')
})

test('session_expired: a session that ends between its claim and its effect has no effect', async (t) => {
  for (const end of ['revoked_at = now()', "expires_at = now() - interval '1 s'"]) {
    const session = await world().newSession()
    const signed = sign(session, 'list', {})
    t.is(await world().claim(signed), 'ok')
    await world().query(`UPDATE lensers.sessions SET ${end} WHERE kid = $1`, [session.kid])
    t.is(codeOf(await world().store.apply('list', signed.text)), 'session_expired')
  }
})

test('unknown_session: a key that never logged in asks for nothing but its login', async (t) => {
  t.is(codeOf(await world().ask(newKey(), 'list', {})), 'unknown_session')
})

test('kid_mismatch: the kid must be that of the key in the body, whatever the service checked', async (t) => {
  const [key, another] = [newKey(), newKey()]
  const body = { op_id: newUuidV7(), public_key: encodeKey(another.publicKey), token: 'a.b.c'.padEnd(20, 'c') }
  const signed = sign(key, 'login', body)
  t.is(await world().claim(signed), 'ok')
  t.is(codeOf(await world().store.login(signed.text, token('x'))), 'kid_mismatch')
})
