import test from 'ava'
import {
  checkPath,
  classRefusal,
  limits,
  objectClasses,
  objectClassNames,
  objectClassOf,
  pullableClasses,
  pushableClasses,
  readingOf,
} from './src/index.ts'

// The spec's own table and defaults (Object classes), written out: the registry is held to it.
const cloud = 'xp_total trust_evaluation battle_result policy budget kill_switch dark_launch ai_catalog'.split(' ')
const local = 'byok_key local_battle scratchpad_draft keychain_entry private_key'.split(' ')
const both =
  'agent_config agent_team_graph workflow_definition lens_draft runner_metadata non_secret_pref automation_registry_entry'.split(
    ' ',
  )

test('each class has the authority that the spec gives it, and there is no other', (t) => {
  for (const name of cloud) t.is(objectClassOf(name)?.authority, 'cloud', name)
  for (const name of local) t.is(objectClassOf(name)?.authority, 'local', name)
  for (const name of both) t.is(objectClassOf(name)?.authority, 'both', name)
  t.deepEqual([...objectClassNames].sort(), [...cloud, ...local, ...both].sort())
  t.deepEqual([...pushableClasses].sort(), both.toSorted())
  t.deepEqual([...pullableClasses].sort(), [...cloud, ...both].sort())
})

test('a class that is not in the registry is unknown, whatever it is called', (t) => {
  for (const name of ['', 'agent', 'Agent_config', 'agent_config ', '__proto__', 'constructor', 'toString', 'ä']) {
    t.is(objectClassOf(name), undefined, name)
    t.is(classRefusal(name), 'unknown_class', name)
    t.not(checkPath(name, '$life', true), null, name)
    t.is(readingOf(name, '$life'), 'lww', name)
  }
})

test('what the cloud decides and what stays on a machine is refused, each with its code', (t) => {
  for (const name of cloud) t.is(classRefusal(name), 'cloud_authoritative', name)
  for (const name of local) t.is(classRefusal(name), 'local_only_class', name)
  for (const name of both) t.is(classRefusal(name), null, name)
  // Nothing can be written at any path of theirs either.
  for (const name of [...cloud, ...local]) t.deepEqual(objectClasses[name as 'policy'].paths, {}, name)
})

test('SC-1: each conflict-aware class declares its paths and how each is merged', (t) => {
  const keep = new Map([['workflow_definition', ['$life', 'step/s1/body', 'version/v1']]])
  const examples: Record<string, string[]> = {
    agent_config: 'name description model system_prompt temperature max_tokens tools tags notes'.split(' '),
    agent_team_graph: ['name', 'description', 'node/n1', 'edge/n1/n2'],
    workflow_definition: ['name', 'description', 'step/s1/body', 'step/s1/pos', 'version/v1'],
    lens_draft: 'name description template language parameters tags notes'.split(' '),
    runner_metadata: 'name description labels notes'.split(' '),
    non_secret_pref: ['pref/editor.theme'],
    automation_registry_entry: ['name', 'description', 'entry/nightly'],
  }
  t.deepEqual(Object.keys(examples).sort(), both.toSorted())
  for (const [name, paths] of Object.entries(examples)) {
    const declared = Object.keys(objectClassOf(name)?.paths ?? {})
    t.is(declared.length, paths.length + 1, `${name} declares ${declared.join(', ')}`)
    for (const path of ['$life', ...paths]) {
      t.is(checkPath(name, path, null), null, `${name} ${path}`)
      t.is(readingOf(name, path), keep.get(name)?.includes(path) ? 'keep' : 'lww', `${name} ${path}`)
    }
  }
})

test('only what everything of an account shares is flushed by one machine alone', (t) => {
  t.deepEqual(
    objectClassNames.filter((name) => objectClasses[name].coordinated),
    ['automation_registry_entry'],
  )
  t.deepEqual(
    objectClassNames.filter((name) => objectClasses[name].feed === 'global'),
    ['ai_catalog'],
  )
})

test('a path that a class does not have is refused, without what was sent in full', (t) => {
  const long = 'x'.repeat(64)
  for (const [name, path] of [
    ['agent_config', 'Name'],
    ['agent_config', 'name/x'],
    ['agent_config', '__proto__'],
    ['agent_config', 'constructor'],
    ['agent_config', ''],
    ['agent_config', 'life'],
    ['agent_config', 'name\n'],
    ['workflow_definition', 'step/s'],
    ['workflow_definition', 'step//body'],
    ['workflow_definition', 'step/a/b/body'],
    ['workflow_definition', 'step/../body'],
    ['workflow_definition', `step/${long}x/body`],
    ['agent_team_graph', 'edge/a'],
    ['agent_team_graph', 'edge/a/b/c'],
    ['agent_team_graph', 'edge/a b/c'],
    ['non_secret_pref', 'pref/é'],
    ['non_secret_pref', 'xpref/a'],
  ] as const) {
    t.not(checkPath(name, path, null), null, `${name} ${path}`)
    t.not(checkPath(name, path, 'x'), null, `${name} ${path}`)
  }
  t.is(checkPath('workflow_definition', `step/${long}/body`, 1), null)
  t.true((checkPath('agent_config', 'p'.repeat(5000), 1) ?? '').length < 200)
  t.notThrows(() => checkPath('agent_config', '\ud800', 1))
})

test('a value must fit its path, and null, which deletes, fits all', (t) => {
  for (const [name, path, value] of [
    ['agent_config', 'name', 1],
    ['agent_config', 'name', 'x'.repeat(121)],
    ['agent_config', 'temperature', 2.5],
    ['agent_config', 'max_tokens', 1.5],
    ['agent_config', 'tools', ['x', 1]],
    ['agent_config', '$life', false],
    ['workflow_definition', '$life', 'yes'],
    ['workflow_definition', 'step/s/pos', 'first'],
    ['workflow_definition', 'version/v', { author: 'x' }],
    ['workflow_definition', 'version/v', 'x'],
  ] as const) {
    const refusal = checkPath(name, path, value)
    t.not(refusal, null, `${name} ${path}`)
    t.false(refusal?.includes(String(value)), refusal ?? '')
    t.is(checkPath(name, path, null), null)
  }
  t.is(checkPath('workflow_definition', 'version/v', { created_at: '2026-11-21', hash: 'h' }), null)
  t.is(checkPath('agent_config', 'temperature', 0.7), null)
})

test('a value may nest so deep and no deeper', (t) => {
  const nested = (depth: number): unknown => (depth === 1 ? 1 : [nested(depth - 1)])
  t.is(checkPath('non_secret_pref', 'pref/a', nested(limits.objectDepth)), null)
  t.regex(checkPath('non_secret_pref', 'pref/a', nested(limits.objectDepth + 1)) ?? '', /levels deep/)
  t.not(checkPath('non_secret_pref', 'pref/a', nested(200)), null)
  t.not(checkPath('non_secret_pref', 'pref/a', { a: { b: nested(limits.objectDepth - 1) } }), null)
})
