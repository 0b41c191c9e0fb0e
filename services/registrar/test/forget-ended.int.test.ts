import { randomUUID } from 'node:crypto'
import test from 'ava'
import { newKey, operation, resultOf, token, useWorld } from './_world.ts'

const world = useWorld(test)
const login = async (claims: object): Promise<unknown> =>
  resultOf(
    await world().login(newKey(), claims, { ...operation(), token: `head.${randomUUID().replaceAll('-', '')}.sig` }),
  )

test.serial('what ended 90 days ago is forgotten as others sign in, a few at a time; what lives stays', async (t) => {
  const subject = randomUUID()
  const living = await world().newSession(subject)
  const make = (name: string, ends: string) =>
    world().query(
      `INSERT INTO lensers.sessions (kid, public_key, lenser_id, created_at, expires_at, revoked_at)
       SELECT devices.fn_kid_of_key(key), key, $1, now() - interval '300 days', ${ends}
         FROM generate_series(1, 6) AS n, sha256(($2 || n)::bytea) AS key`,
      [living.lenser, name],
    )
  await make('expired', `now() - interval '91 days', NULL`)
  await make('revoked', `now() + interval '91 days', now() - interval '91 days'`)
  await make('lately', `now() - interval '89 days', NULL`)
  const count = async (): Promise<number> =>
    (await world().query('SELECT FROM lensers.sessions WHERE lenser_id = $1', [living.lenser])).length
  t.is(await count(), 19)
  for (let n = 0; n < 2; n++) await world().newSession()
  t.true((await count()) > 7, 'in bounded steps')
  for (let n = 0; n < 8; n++) await world().newSession()
  t.is(await count(), 7)
})

test.serial('uses are forgotten when their tokens count no more, a few with each login', async (t) => {
  const issuer = `https://${randomUUID()}.test`
  const uses = () => world().query('SELECT FROM lensers.token_uses WHERE issuer = $1', [issuer])
  await world().query(
    `INSERT INTO lensers.token_uses (issuer, digest, kid, expires_at)
     SELECT $1, sha256(('old' || n)::bytea), gen_random_uuid(), now() - interval '1 s' FROM generate_series(1, 10) AS n`,
    [issuer],
  )
  await login({ ...token('sam'), issuer, bound: undefined })
  t.true((await uses()).length > 1, 'in bounded steps')
  for (let n = 0; n < 4; n++) await login(token('sam'))
  t.is((await uses()).length, 1, 'the one that counts')
})
