import test from 'ava'
import { readAssignments, readValue } from '../src/objects/assignments.ts'
import { refuseSecrets } from '../src/objects/secrets.ts'

const files: Readonly<Record<string, string>> = {
  'step.json': '{"run": "make"}',
  'notes.md': '# Notes\n',
  '-': 'from elsewhere',
  'all.json': '{"name": "Reviewer", "temperature": 0.5}',
  'list.json': '[1]',
}
const read = (file: string): string => files[file] as string
const assign = (given: { className?: string; pairs?: string[]; unset?: string[]; jsonFile?: string }) =>
  readAssignments({ className: 'agent_config', pairs: [], unset: [], ...given }, read)

test('a value is JSON where it is and the path takes it, else the text that was typed', (t) => {
  for (const [className, path, text, value] of [
    ['agent_config', 'temperature', '0.2', 0.2],
    ['agent_config', 'tools', '["a","b"]', ['a', 'b']],
    ['agent_config', 'name', 'Reviewer', 'Reviewer'],
    ['agent_config', 'name', '2026', '2026'],
    ['agent_config', 'name', '"2026"', '2026'],
    ['agent_config', 'name', 'null', null],
    ['agent_config', 'temperature', 'warm', 'warm'],
    ['non_secret_pref', 'pref/theme', 'dark', 'dark'],
    ['non_secret_pref', 'pref/size', '12', 12],
    ['no_such_class', 'x', '1', 1],
  ] as const)
    t.deepEqual(readValue(className, path, text), value, `${path}=${text}`)
})

test('changes come from the command line, files and standard input, each path once', (t) => {
  t.deepEqual(assign({ pairs: ['name=a=b', 'notes=@notes.md', 'description=-'], unset: ['tags'] }), {
    ...{ name: 'a=b', notes: '# Notes\n', description: 'from elsewhere', tags: null },
  })
  t.deepEqual(assign({ jsonFile: 'all.json', pairs: ['notes='] }), { name: 'Reviewer', temperature: 0.5, notes: '' })
  t.deepEqual(assign({ className: 'workflow_definition', pairs: ['step/a/body=@step.json'] }), {
    'step/a/body': { run: 'make' },
  })
  for (const wrong of [
    {},
    { pairs: ['name'] },
    { pairs: ['=x'] },
    { pairs: ['name=a', 'name=b'] },
    { pairs: ['name=a'], unset: ['name'] },
    { jsonFile: 'all.json', pairs: ['name=b'] },
    { pairs: ['name=-', 'notes=-'] },
    { jsonFile: 'list.json' },
    { jsonFile: 'notes.md' },
  ])
    t.throws(() => assign(wrong), { code: 'usage' }, JSON.stringify(wrong))
  t.deepEqual(Object.keys(assign({ jsonFile: 'all.json', unset: ['__proto__'] })), ['name', 'temperature', '__proto__'])
})

test('what is like a secret is refused by where it is, and never quoted', (t) => {
  const secret = `lfk_${'A'.repeat(70)}`
  for (const [paths, where] of [
    [{ 'pref/api_key': 'anything' }, 'pref/api_key'],
    [{ 'pref/theme': secret }, 'pref/theme'],
    [{ 'step/a/body': { env: { GITHUB_TOKEN: 'x' } } }, 'step/a/body.env.GITHUB_TOKEN'],
    [{ 'step/a/body': [`Bearer ${'x'.repeat(20)}`] }, 'step/a/body.0'],
    [{ [`pref/${secret}`]: 1 }, 'pref/…'],
    [{ name: 'x', notes: 'f'.repeat(64) }, 'notes'],
  ] as const) {
    const error = t.throws(() => refuseSecrets(paths), { code: 'secret_in_object' }, where)
    t.true(error?.message.endsWith(`(${where})`), error?.message)
    t.false(error?.message.includes(secret))
  }
})

test('a step or a node that is named after a secret is not one, nor is a number or a hash that says what it is', (t) => {
  t.notThrows(() =>
    refuseSecrets({
      ...{ max_tokens: 4096, name: 'Token counter', temperature: 0.2 },
      ...{ 'step/rotate-credentials/body': { run: 'make rotate' }, 'step/seed/pos': 1 },
      'version/1': { created_at: '2026-11-21T10:00:00Z', hash: `sha256:${'f'.repeat(64)}` },
    }),
  )
  t.throws(() => refuseSecrets({ 'step/token/body': { token: 'x' } }), { code: 'secret_in_object' })
})
