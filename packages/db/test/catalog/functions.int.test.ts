import test from 'ava'
import { useWorld } from '../_world.ts'
import { grantedFunctions, ourSchemas, serviceRoles } from './_expected.ts'

interface FunctionRow {
  name: string
  owner: string
  definer: boolean
  config: string[] | null
  language: string
  grantees: string[]
}

const world = useWorld(test)

const functions = () =>
  world().rows<FunctionRow>(
    `SELECT format('%s.%s', n.nspname, p.proname) AS name, o.rolname AS owner, p.prosecdef AS definer,
            p.proconfig AS config, l.lanname AS language,
            ARRAY(SELECT coalesce(g.rolname, 'PUBLIC')::text
                    FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                    LEFT JOIN pg_roles g ON g.oid = a.grantee
                   WHERE a.grantee <> p.proowner
                   ORDER BY 1) AS grantees
       FROM pg_proc p
       JOIN pg_namespace n ON n.oid = p.pronamespace
       JOIN pg_roles o ON o.oid = p.proowner
       JOIN pg_language l ON l.oid = p.prolang
      WHERE n.nspname = ANY ($1)
      ORDER BY 1`,
    [ourSchemas],
  )

test('every function has a search path of its own, the owner role for an owner, and no C', async (t) => {
  const all = await functions()
  t.true(all.length > 30)
  for (const { name, owner, config, language } of all) {
    t.true(config?.includes('search_path=pg_catalog, pg_temp'), `${name} has no search path`)
    t.is(owner, 'ltg_owner', name)
    t.true(['plpgsql', 'sql'].includes(language), `${name} is in ${language}`)
  }
})

test('no function but those listed may be executed by anybody, and those by exactly the roles listed', async (t) => {
  const all = await functions()
  const granted: Record<string, string[]> = {}
  for (const { name, grantees } of all) {
    t.false(grantees.includes('PUBLIC'), `everybody may execute ${name}`)
    for (const role of grantees) granted[role] = [...(granted[role] ?? []), name]
  }
  t.deepEqual(granted, structuredClone(grantedFunctions) as Record<string, string[]>)
})

test('a name that is granted has one function, so that no overload is reached by another way', async (t) => {
  const all = await functions()
  const named = new Set(Object.values(grantedFunctions).flat())
  for (const name of named) t.is(all.filter((one) => one.name === name).length, 1, name)
})

test('a function that a service calls acts as the owner; internal ones act as their caller or are triggers', async (t) => {
  const all = await functions()
  const byServices = serviceRoles.flatMap((role) => grantedFunctions[role] ?? [])
  for (const { name, definer } of all) if (byServices.includes(name)) t.true(definer, name)
  const called = new Set(Object.values(grantedFunctions).flat())
  const others = all.filter(({ name, definer }) => definer && !called.has(name)).map(({ name }) => name)
  const triggers = await world().rows<{ name: string }>(
    `SELECT DISTINCT format('%s.%s', n.nspname, p.proname) AS name
       FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace`,
  )
  const isTrigger = new Set(triggers.map(({ name }) => name))
  t.deepEqual(
    others.filter((name) => !isTrigger.has(name)),
    [],
    'nobody may call these: why definers?',
  )
})
