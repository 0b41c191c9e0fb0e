import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { objectClassNames } from '@lenserfight/schemas'
import test from 'ava'
import { listOf, objectOf } from '../src/objects/answers.ts'
import { readAssignments, readInput, readValue, refuseTooLarge } from '../src/objects/assignments.ts'
import { classRows, describeObject, listLines, waitLine } from '../src/objects/describe.ts'
import { refuseSecrets } from '../src/objects/secrets.ts'
import { createOutput } from '../src/output.ts'

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

test('what is larger than an object may be, or no text, is refused before it is sent', (t) => {
  t.notThrows(() => refuseTooLarge({ notes: 'x'.repeat(60_000) }))
  t.throws(() => refuseTooLarge({ notes: 'x'.repeat(70_000) }), { code: 'object_too_large' })
  t.throws(() => refuseTooLarge({ notes: '\n'.repeat(40_000) }), { code: 'object_too_large' }, 'as it is written')
  const folder = mkdtempSync(join(tmpdir(), 'lf-objects-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const fileOf = (content: string | Buffer): string => {
    const file = join(folder, 'value')
    writeFileSync(file, content)
    return file
  }
  t.is(readInput(fileOf('# Notes\n')), '# Notes\n')
  t.throws(() => readInput(fileOf('x'.repeat(300_000))), { code: 'object_too_large' })
  t.throws(() => readInput(fileOf(Buffer.from([0xff, 0xfe]))), { code: 'input_unreadable' })
  t.throws(() => readInput(folder), { code: 'input_unreadable' })
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

const now = Date.parse('2026-11-21T10:00:00Z')
const output = createOutput({ json: false, colours: false, results: 1 })
const device = '019d3c5e-77a1-7000-8000-aaaaaaaaaaaa'
const workflow = {
  ...{ class: 'workflow_definition', object: 'nightly', authority: 'both', alive: true, pending: 0, set_aside: null },
  paths: { name: 'Nightly', 'step/a/body': { run: 'make' }, 'step/a/pos': 1 },
  ...{ conflicts: [], beside: [], edited_while_deleted: [], changed_at: now - 60_000 },
}
const told = (members: object): string =>
  describeObject(objectOf({ ...workflow, ...members }), output, { now }).join('\n')

test('an object is told as it reads, one line where a value has one', (t) => {
  t.is(
    told({}),
    [
      'workflow_definition nightly (your machines’), changed 60 s ago',
      '  name: Nightly',
      '  step/a/body:',
      '    {',
      '      "run": "make"',
      '    }',
      '  step/a/pos: 1',
    ].join('\n'),
  )
  t.regex(told({ authority: 'cloud' }), /^workflow_definition nightly \(the gateway’s\)/)
  t.regex(told({ pending: 2 }), /\n2 edits of it wait to be sent\.$/)
})

test('what is in conflict is marked with every side, and where it is decided', (t) => {
  const sides = [
    { actor: `${device}~1`, clock: {}, value: 'one\ntwo' },
    { actor: `${device}~2`, clock: {}, value: null },
  ]
  const lines = told({ paths: { 'step/a/body': 'one\ntwo' }, conflicts: [{ path: 'step/a/body', sides }] })
  t.regex(
    lines,
    new RegExp(
      `\n  step/a/body: in conflict\n    side 1, by ${device}\n      one\n      two\n    side 2, by .*\n      \\(deleted\\)`,
    ),
  )
  t.regex(lines, /\nWhat is in conflict awaits you: `lf gateway sync status --conflicts`\.$/)
})

test('a write beside the one that is read is shown with whose it is, and how it is decided', (t) => {
  const other = '019d3c5e-77a1-7000-8000-bbbbbbbbbbbb'
  const view = objectOf({
    ...{ ...workflow, class: 'agent_config', object: 'reviewer', paths: { model: 'm', temperature: 0.1 } },
    beside: [
      { path: '$life', writes: [{ actor: `${other}~1`, value: null }] },
      { path: 'notes', writes: [{ actor: `${device}~1`, value: 'one\ntwo' }] },
      { path: 'temperature', writes: [{ actor: `${other}~1`, value: 0.9 }] },
    ],
  })
  const writers = { names: new Map([[other, 'laptop']]), here: device }
  t.deepEqual(describeObject(view, output, { writers, now }).slice(1), [
    '  whether it exists: yes',
    `    also deleted by laptop (${other}), not read`,
    '    `lf gateway objects delete agent_config reviewer` or `… undelete …` decides',
    '  model: m',
    '  temperature: 0.1',
    `    also written, not read: 0.9 by laptop (${other})`,
    '    `lf gateway objects set agent_config reviewer temperature=…` decides',
    '  notes: (deleted)',
    `    also written, not read, by ${device}, this machine:`,
    '      one',
    '      two',
    '    `lf gateway objects set agent_config reviewer notes=…` decides',
  ])
})

test('a conflict on whether an object exists says what was edited meanwhile', (t) => {
  const sides = [
    { actor: `${device}~1`, value: true },
    { actor: `${device}~2`, value: null },
  ]
  const lines = told({ conflicts: [{ path: '$life', sides }], edited_while_deleted: ['step/a/body', 'step/b/body'] })
  t.regex(lines, /\n {2}whether it exists: in conflict\n[\s\S]*yes: edited[\s\S]*no: deleted\n/)
  t.regex(lines, /\n {4}edited meanwhile: step\/a\/body, step\/b\/body\n/)
})

test('a deleted object says how it is brought back, and what was edited meanwhile', (t) => {
  t.regex(
    told({ alive: false }),
    /deleted\).*\nIt is deleted\. `lf gateway objects undelete workflow_definition nightly`/s,
  )
  t.regex(
    told({ alive: false, edited_while_deleted: ['name'] }),
    /\nIt is deleted, and was edited meanwhile: name\. `lf/,
  )
  t.notRegex(told({ alive: false, authority: 'cloud' }), /undelete/)
})

test('edits that were refused say why, and both ways out', (t) => {
  const lines = told({ set_aside: { code: 'object_limit', detail: null, at: now }, pending: 1 })
  t.regex(lines, /\nobject_limit: This account has as many objects as it may\./)
  t.regex(
    lines,
    /`lf gateway objects set workflow_definition nightly …`.*`lf gateway objects discard workflow_definition nightly`/,
  )
  t.notRegex(lines, /wait to be sent/)
  t.is(waitLine({ pending: 1, set_aside: null }), '1 edit of it waits to be sent.')
})

const listed = {
  class: 'agent_config',
  object: 'a',
  alive: true,
  pending: 0,
  set_aside: null,
  conflicts: 0,
  beside: 0,
  changed_at: now,
}
const linesOf = (objects: object[], className?: string) =>
  listLines({ ...listOf({ objects, more: false }), className }, output, now)

test('the list names every class, who decides it and how many there are; and what awaits somebody', (t) => {
  const lines = linesOf([
    listed,
    { ...listed, object: 'b', alive: false },
    { ...listed, object: 'c', set_aside: 'object_limit', conflicts: 2, pending: 1 },
  ])
  t.regex(lines[0] ?? '', /^CLASS +DECIDED BY +HERE$/)
  t.true(
    lines.some((line) => /^agent_config +your machines +2$/.test(line)),
    'those that are alive',
  )
  t.true(lines.some((line) => /^policy +the gateway +0$/.test(line)))
  t.true(lines.some((line) => /^byok_key +each machine alone +-$/.test(line)))
  t.regex(lines.at(-1) ?? '', /^agent_config +c .*set aside: object_limit, 2 conflicts, 1 edit to be sent$/)
  t.regex(lines.at(-2) ?? '', /^agent_config +b .* deleted$/)
  t.regex(
    linesOf([], 'agent_config').join('\n'),
    /^agent_config: decided by your machines; paths: name, .*temperature.*\nNo objects here\.$/,
  )
  t.deepEqual(linesOf([], 'byok_key'), ['byok_key: decided by each machine alone', 'No objects here.'])
  t.regex(linesOf([{ ...listed, beside: 1 }]).at(-1) ?? '', / 1 write not read$/)
  t.is(classRows([]).length, objectClassNames.length)
})

test('nothing that another machine wrote acts upon a terminal, and what is no object is not shown as one', (t) => {
  const hostile = 'a\u001b[2J\u009b2J\r\nb\u202ec'
  const view = objectOf({
    ...{ ...workflow, object: hostile, paths: { [hostile]: hostile, b: [hostile] }, edited_while_deleted: [hostile] },
    ...{ alive: false, set_aside: { code: hostile, detail: hostile, at: now } },
    conflicts: [{ path: hostile, sides: [{ actor: hostile, value: hostile }] }],
  })
  const list = linesOf([{ ...listed, class: hostile, object: hostile, set_aside: hostile }])
  for (const line of [...describeObject(view, output, { now }), ...list])
    t.notRegex(line, /[\p{Cc}\p{Bidi_Control}]/u, line)
  for (const wrong of [{}, { ...workflow, paths: [] }]) t.throws(() => objectOf(wrong), { code: 'internal_error' })
  for (const wrong of [{}, { objects: [{}] }]) t.throws(() => listOf(wrong), { code: 'internal_error' })
})
