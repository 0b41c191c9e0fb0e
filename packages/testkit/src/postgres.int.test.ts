import { withClient } from '@lenserfight/local'
import test from 'ava'
import { testPostgres } from './postgres.ts'

test('a test database is migrated, its own, and gone when dropped', async (t) => {
  const [one, other] = await Promise.all([testPostgres(), testPostgres()])
  t.not(one.owner.database, other.owner.database)
  await withClient(one.owner, async (client) => {
    const { rows } = await client.query<{ schemas: number; applied: number }>(
      `SELECT (SELECT count(*)::int FROM pg_namespace WHERE nspname IN ('devices', 'execution', 'audit')) AS schemas,
              (SELECT count(*)::int FROM public.migrations) AS applied`,
    )
    t.is(rows[0]?.schemas, 3)
    t.true((rows[0]?.applied ?? 0) > 0)
    await client.query('CREATE TABLE only_here ()')
  })
  const { rows } = await withClient(other.owner, (client) => client.query(`SELECT to_regclass('only_here') AS there`))
  t.is(rows[0].there, null)
  await one.drop()
  await t.throwsAsync(
    withClient(one.owner, async () => {}),
    { code: '3D000' },
  )
})

test('a service’s role is let in with its own password and with no other', async (t) => {
  const database = await testPostgres()
  const verifier = database.as('ltg_verifier')
  const me = await withClient(verifier, async (client) => (await client.query('SELECT current_user AS me')).rows[0].me)
  t.is(me, 'ltg_verifier')
  const { password } = database.as('ltg_registrar')
  await t.throwsAsync(
    withClient({ ...verifier, password }, async () => {}),
    { code: '28P01' },
  )
})
