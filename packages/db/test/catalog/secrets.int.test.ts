import test from 'ava'
import { useWorld } from '../_world.ts'
import { ourSchemas } from './_expected.ts'

const world = useWorld(test)

test('SH-2: no table has a column that a provider’s key, a token or a private key could be meant for', async (t) => {
  const found = await world().rows<{ name: string }>(
    `SELECT format('%s.%s.%s', n.nspname, c.relname, a.attname) AS name
       FROM pg_attribute AS a
       JOIN pg_class AS c ON c.oid = a.attrelid
       JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
        AND (a.attname ~* '(secret|token|passw|private|byok|credential|seed|api_?key|provider|jwt)')
      ORDER BY 1`,
    [ourSchemas],
  )
  t.deepEqual(found, [])
})
