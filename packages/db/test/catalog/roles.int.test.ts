import test from 'ava'
import { refuses, useWorld } from '../_world.ts'
import { grantedFunctions, ourSchemas, serviceRoles } from './_expected.ts'

const world = useWorld(test)

test('a service’s role has no attribute, no membership and no password that migrations know', async (t) => {
  const roles = await world().rows(
    `SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolinherit,
            EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid OR m.roleid = r.oid) AS member
       FROM pg_roles r WHERE rolname = ANY ($1) ORDER BY 1`,
    [serviceRoles],
  )
  const none = { rolsuper: false, rolcreaterole: false, rolcreatedb: false, rolreplication: false, rolbypassrls: false }
  t.deepEqual(
    roles,
    [...serviceRoles].sort().map((rolname) => ({ rolname, ...none, rolinherit: false, member: false })),
  )
  const owner = await world().one(`SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'ltg_owner'`)
  t.deepEqual(owner, { rolcanlogin: false, rolsuper: false })
})

test('the platform’s service_role blocks devices, opens battles, looks after XP, keeps the catalog and raises the epoch, does nothing else of ours, and touches no table', async (t) => {
  const own = await world().one<{ tables: string }>(
    `SELECT count(*) AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p')
        AND has_table_privilege('service_role', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')`,
    [ourSchemas],
  )
  t.is(own.tables, '0')
  t.deepEqual(grantedFunctions.service_role, [
    'agents.fn_catalog_retire',
    'agents.fn_catalog_set',
    'auth.uid',
    'battles.fn_battle_close',
    'battles.fn_battle_open',
    'devices.fn_device_block',
    'devices.fn_device_unblock',
    'devices.fn_epoch_raise',
    'devices.fn_invalidate_claims',
    'reputation.fn_leaderboard',
    'xp.apply',
    'xp.fn_jobs_overview',
    'xp.fn_jobs_retry',
  ])
})

test('as each service: every table refuses to be read and written, every function of another to be called', async (t) => {
  const tables = await world().rows<{ name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p')`,
    [ourSchemas],
  )
  const functions = await world().rows<{ name: string; call: string }>(
    `SELECT format('%s.%s', n.nspname, p.proname) AS name,
            -- OFFSET keeps the planner from folding a strict function of NULL without asking who calls.
            (SELECT format('SELECT %s.%s(%s) FROM (SELECT %s OFFSET 0) x', n.nspname, p.proname,
                      string_agg(format('x.a%s', place), ', '),
                      coalesce(string_agg(format('NULL::%s AS a%s', format_type(a, NULL), place), ', '), '1'))
               FROM unnest(p.proargtypes) WITH ORDINALITY AS args (a, place)) AS call
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = ANY ($1) AND p.prorettype <> 'trigger'::regtype`,
    [ourSchemas],
  )
  for (const role of serviceRoles) {
    const client = await world().as(role).connect()
    for (const { name } of tables) {
      for (const statement of [`SELECT FROM ${name}`, `DELETE FROM ${name}`, `INSERT INTO ${name} DEFAULT VALUES`]) {
        await refuses(t, () => client.query(statement), '42501')
      }
    }
    const own = grantedFunctions[role] ?? []
    for (const { name, call } of functions) {
      if (own.includes(name)) continue
      await refuses(t, () => client.query(call), '42501')
    }
    client.release()
  }
})

test('as each service: each of its own functions may be called', async (t) => {
  for (const role of serviceRoles) {
    for (const name of grantedFunctions[role] ?? []) {
      const { may } = await world().one<{ may: boolean }>(
        `SELECT has_function_privilege($1, p.oid, 'EXECUTE') AND has_schema_privilege($1, n.oid, 'USAGE') AS may
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE format('%s.%s', n.nspname, p.proname) = $2`,
        [role, name],
      )
      t.true(may, `${role} ${name}`)
    }
  }
})

test('as each service: it makes nothing in any schema, and becomes nobody else', async (t) => {
  for (const role of serviceRoles) {
    const client = await world().as(role).connect()
    for (const schema of ourSchemas) {
      await refuses(t, () => client.query(`CREATE TABLE ${schema}.mine (id int)`), '42501')
    }
    for (const other of ['ltg_owner', 'postgres', 'service_role', 'authenticated']) {
      await refuses(t, () => client.query(`SET ROLE ${other}`), '42501')
    }
    client.release()
  }
})
