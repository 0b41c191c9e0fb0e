import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  approvalDefaults,
  deviceLevels,
  deviceTransitions,
  isReasonCode,
  kindNames,
  kinds,
  kindsInScope,
  limits,
  objectClasses,
  policyPhases,
  policyReasons,
  policyVerdicts,
  reasonOf,
  sessionScopes,
} from '@lenserfight/schemas'
import test from 'ava'
import { ownStates } from '../../src/index.ts'
import { useWorld } from '../_world.ts'
import { ourSchemas } from './_expected.ts'

const world = useWorld(test)

const bodies = () =>
  world().rows<{ name: string; body: string }>(
    `SELECT format('%s.%s', n.nspname, p.proname) AS name, p.prosrc AS body
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY ($1) ORDER BY 1`,
    [ourSchemas],
  )

test('devices.kind_states is what the contract says of kinds and states', async (t) => {
  const expected = kindNames.flatMap((kind) => {
    const { states } = kinds[kind] as { states?: readonly string[] }
    return (states ?? []).map((level) => `${kind} ${level}`)
  })
  const rows = await world().rows<{ kind: string; trust_level: string }>('SELECT * FROM devices.kind_states')
  t.deepEqual(rows.map(({ kind, trust_level }) => `${kind} ${trust_level}`).sort(), [...expected].sort())
})

test('devices.session_kinds is what the contract says of kinds and scopes', async (t) => {
  const expected = sessionScopes.flatMap((scope) => kindsInScope(scope).map((kind) => `${kind} ${scope}`))
  const rows = await world().rows<{ kind: string; scope: string }>('SELECT * FROM devices.session_kinds')
  t.deepEqual(rows.map(({ kind, scope }) => `${kind} ${scope}`).sort(), [...expected].sort())
})

test('devices.object_classes is what the contract says of classes', async (t) => {
  const expected = Object.entries(objectClasses).map(
    ([name, { authority, feed, coordinated }]) => `${name} ${authority} ${feed} ${coordinated}`,
  )
  const rows = await world().rows<{ line: string }>(
    `SELECT format('%s %s %s %s', class, authority, feed, CASE WHEN coordinated THEN 'true' ELSE 'false' END) AS line
       FROM devices.object_classes`,
  )
  t.deepEqual(rows.map(({ line }) => line).sort(), expected.sort())
})

test('devices.keep_paths is what the contract says of paths that a person decides about', async (t) => {
  const word = '[A-Za-z0-9][A-Za-z0-9._-]{0,63}'
  const expected = Object.entries(objectClasses).flatMap(([name, { paths }]) =>
    Object.entries(paths as Record<string, { read: string }>)
      .filter(([, { read }]) => read === 'keep')
      .map(([form]) => `${name} ^${form.replaceAll('$', '\\$').replaceAll('<id>', word)}$`),
  )
  const rows = await world().rows<{ class: string; pattern: string }>('SELECT * FROM devices.keep_paths')
  t.deepEqual(rows.map((row) => `${row.class} ${row.pattern}`).sort(), expected.sort())
})

test('change_limit: every request that leaves something behind is counted, by the index and by who asks it', async (t) => {
  const requests = kindNames.filter((kind) => kinds[kind].door === 'ask' && kinds[kind].operation).toSorted()
  const { text } = await world().one<{ text: string }>(
    `SELECT pg_get_indexdef('devices.operations_requests_idx'::regclass) AS text`,
  )
  t.deepEqual([...text.matchAll(/'([a-z_]+)'/g)].map(([, kind]) => kind).toSorted(), requests)
  const counting = (await bodies()).find(({ name }) => name === 'devices.fn_account_limit')?.body ?? ''
  const asked = counting.slice(counting.indexOf('o.kind IN'), counting.indexOf('ORDER BY'))
  t.deepEqual([...asked.matchAll(/'([a-z_]+)'/g)].map(([, kind]) => kind).toSorted(), requests)
})

test('devices.trust_transitions is what the contract says of transitions', async (t) => {
  const rows = await world().rows<{ from_level: string; to_level: string; actor: string }>(
    'SELECT * FROM devices.trust_transitions',
  )
  const line = (from: string, to: string, actor: string) => `${from} ${to} ${actor}`
  t.deepEqual(
    rows.map((row) => line(row.from_level, row.to_level, row.actor)).sort(),
    deviceTransitions.map(({ from, to, actor }) => line(from, to, actor)).sort(),
  )
})

test('a device’s level may be any of the contract’s and no other', async (t) => {
  const { text } = await world().one<{ text: string }>(
    `SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint
      WHERE conrelid = 'devices.registered_devices'::regclass AND conname = 'registered_devices_trust_level_check'`,
  )
  t.deepEqual([...text.matchAll(/'([a-z]+)'/g)].map(([, level]) => level).sort(), [...deviceLevels].sort())
})

test('what a policy’s verdict may say, and when, is the contract’s and nothing else', async (t) => {
  const allowed = async (table: string, column: string): Promise<string[]> => {
    const { text } = await world().one<{ text: string }>(
      `SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conrelid = $1::regclass AND conname = $2`,
      [table, `${table.split('.')[1]}_${column}_check`],
    )
    return [...text.matchAll(/'([a-z_]+)'/g)].map(([, value]) => value ?? '').sort()
  }
  for (const [column, values] of [
    ['phase', policyPhases],
    ['verdict', policyVerdicts],
    ['reason', policyReasons],
  ] as const) {
    t.deepEqual(await allowed('agents.policy_evaluations', column), [...values].sort(), column)
  }
  t.deepEqual(await allowed('agents.workspace_settings', 'approval_default'), [...approvalDefaults].sort())
})

test('the limits that SQL knows are the contract’s', async (t) => {
  const { found } = await world().one<{ found: Record<string, number> }>('SELECT devices.fn_limits() AS found')
  t.true(Object.keys(found).length > 10)
  for (const [name, value] of Object.entries(found)) t.is(value, limits[name as keyof typeof limits], name)
})

test('every limit that a function names is one that SQL knows', async (t) => {
  const { found } = await world().one<{ found: Record<string, number> }>('SELECT devices.fn_limits() AS found')
  for (const { name, body } of await bodies()) {
    for (const [, limit] of body.matchAll(/fn_limit\('([^']*)'\)/g))
      t.true(Object.hasOwn(found, limit ?? ''), `${name}: ${limit}`)
  }
})

test('the reason codes that SQL knows are the contract’s, with the same next step', async (t) => {
  const rows = await world().rows<{ code: string; next: string }>('SELECT code, next FROM devices.reasons')
  t.true(rows.length > 20)
  for (const { code, next } of rows) t.true(isReasonCode(code) && reasonOf(code).next === next, code)
})

test('every code and verdict that a function spells is one of the contract', async (t) => {
  const known = new Set(
    (await world().rows<{ code: string }>('SELECT code FROM devices.reasons')).map(({ code }) => code),
  )
  // Verdicts that stay between a service and its claim function.
  const internal = new Set(['ok', 'key_changed'])
  let spelled = 0
  for (const { name, body } of await bodies()) {
    const text = body.replaceAll(/--.*$/gm, '')
    for (const [, code] of text.matchAll(/fn_refusal\(\s*'([a-z_]+)'/g)) {
      spelled += 1
      t.true(known.has(code ?? ''), `${name} refuses with ${code}`)
    }
    // Claim functions give verdicts, which are codes too.
    const verdicts = name.startsWith('devices.fn_claim_') ? /(?:THEN|ELSE|verdict :=)\s*'([a-z_]*[a-z])'/g : /$^/g
    for (const [, code] of text.matchAll(verdicts)) {
      spelled += 1
      t.true(known.has(code ?? '') || internal.has(code ?? ''), `${name} has the verdict ${code}`)
    }
  }
  t.true(spelled > 20)
})

test('for each state that may not send a kind there is a code that says so', async (t) => {
  const { missing } = await world().one<{ missing: string[] | null }>(
    `SELECT array_agg(DISTINCT 'device_' || level) AS missing
       FROM (SELECT DISTINCT kind FROM devices.kind_states) k CROSS JOIN unnest($1::text[]) level
      WHERE NOT EXISTS (SELECT FROM devices.kind_states s WHERE s.kind = k.kind AND s.trust_level = level)
        AND NOT EXISTS (SELECT FROM devices.reasons r WHERE r.code = 'device_' || level)`,
    [deviceLevels],
  )
  t.is(missing, null)
})

test('each SQLSTATE of our own that a migration raises has its meaning written down', (t) => {
  const dir = join(import.meta.dirname, '../../../../migrations')
  const known = new Set<string>(Object.values(ownStates))
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.sql'))) {
    for (const [, state] of readFileSync(join(dir, file), 'utf8').matchAll(/'(LT[0-9A-Z]{3})'/g)) {
      t.true(known.has(state ?? ''), `${file} raises ${state}`)
    }
  }
})
