import test from 'ava'
import { refuses, useWorld } from '../_world.ts'
import { appendOnly, ourSchemas, readableByTheirOwners } from './_expected.ts'

interface TableRow {
  name: string
  kind: string
  owner: string
  secured: boolean
  forced: boolean
  grants: string[]
  isPartition: boolean
}

const world = useWorld(test)

const relations = () =>
  world().rows<TableRow>(
    `SELECT format('%s.%s', n.nspname, c.relname) AS name, c.relkind AS kind, o.rolname AS owner,
            c.relrowsecurity AS secured, c.relforcerowsecurity AS forced, c.relispartition AS "isPartition",
            ARRAY(SELECT format('%s %s', coalesce(g.rolname, 'PUBLIC'), a.privilege_type)
                    FROM aclexplode(c.relacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
                   WHERE a.grantee <> c.relowner
                  UNION
                  SELECT format('%s %s(%s)', coalesce(g.rolname, 'PUBLIC'), x.privilege_type, a.attname)
                    FROM pg_attribute a, aclexplode(a.attacl) x LEFT JOIN pg_roles g ON g.oid = x.grantee
                   WHERE a.attrelid = c.oid
                   ORDER BY 1) AS grants
       FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_roles o ON o.oid = c.relowner
      WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      ORDER BY 1`,
    [ourSchemas],
  )

test('every table has row security, forced, and belongs to the owner role', async (t) => {
  const all = await relations()
  const tables = all.filter(({ kind }) => kind === 'r' || kind === 'p')
  t.true(tables.length > 20)
  for (const { name, secured, forced } of tables) t.true(secured && forced, `${name} has no forced row security`)
  for (const { name, owner } of all) t.is(owner, 'ltg_owner', name)
  t.deepEqual(
    all.filter(({ kind }) => kind === 'v' || kind === 'm' || kind === 'f').map(({ name }) => name),
    [],
    'views and foreign tables pass row security by',
  )
})

test('nobody may do anything with a table, but for people reading what is listed', async (t) => {
  for (const { name, grants } of await relations()) {
    t.deepEqual(grants, readableByTheirOwners.includes(name) ? ['authenticated SELECT'] : [], name)
  }
})

test('what people may read has a policy that names them; no other table has any policy', async (t) => {
  const policies = await world().rows<{ name: string; cmd: string; roles: string[]; qual: string }>(
    `SELECT format('%s.%s', schemaname, tablename) AS name, cmd, roles::text[] AS roles, qual
       FROM pg_policies WHERE schemaname = ANY ($1) ORDER BY 1`,
    [ourSchemas],
  )
  t.deepEqual([...new Set(policies.map(({ name }) => name))], [...readableByTheirOwners].sort())
  for (const { name, cmd, roles, qual } of policies) {
    t.is(cmd, 'SELECT', name)
    t.deepEqual(roles, ['authenticated'], name)
    // By the caller themselves, or by rows of another table that its own policy lets them see.
    t.regex(qual, /auth\.uid\(\)|IN \( SELECT/, name)
  }
})

test('AU-3 EA-4: UPDATE, DELETE and TRUNCATE of every append-only table are refused, to a superuser and to its owner', async (t) => {
  for (const role of ['postgres', 'ltg_owner']) {
    for (const table of appendOnly) {
      const [column] = await world().rows<{ name: string }>(
        `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND attgenerated = ''
            AND attidentity = '' ORDER BY attnum LIMIT 1`,
        [table],
      )
      const statements = [
        `UPDATE ${table} SET ${column?.name} = ${column?.name}`,
        `DELETE FROM ${table}`,
        `TRUNCATE ${table} CASCADE`,
        `MERGE INTO ${table} x USING (SELECT 1) y ON true WHEN MATCHED THEN DELETE`,
      ]
      for (const statement of statements) {
        await refuses(
          t,
          async () => {
            const client = await world().owner.connect()
            try {
              await client.query(`SET ROLE ${role}`)
              await client.query(statement)
            } finally {
              await client.query('RESET ROLE')
              client.release()
            }
          },
          'LT003',
        )
      }
    }
  }
})

test('AU-3: the guards of append-only tables also stand against a session that asks for triggers to rest', async (t) => {
  const guards = await world().rows<{ name: string; type: number; enabled: string }>(
    `SELECT format('%s.%s', n.nspname, c.relname) AS name, g.tgtype AS type, g.tgenabled AS enabled
       FROM pg_trigger g
       JOIN pg_class c ON c.oid = g.tgrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE g.tgfoid = 'public.fn_deny_mutation()'::regprocedure`,
  )
  for (const table of appendOnly) {
    const guard = guards.find(({ name }) => name === table)
    // BEFORE (2), DELETE (8), UPDATE (16), TRUNCATE (32), for the statement, so that it fires with no row too.
    t.is(guard?.type, 2 + 8 + 16 + 32, table)
    t.is(guard?.enabled, 'A', table)
  }
})
