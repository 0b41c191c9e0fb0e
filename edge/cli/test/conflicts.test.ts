import { stripVTControlCharacters } from 'node:util'
import test from 'ava'
import fc from 'fast-check'
import { createOutput } from '../src/output.ts'
import { type Conflict, conflictsOf, resolutionOf } from '../src/owner/conflicts.ts'
import { syncStatusOf } from '../src/owner/sync-status.ts'
import { commandsOf, conflictLines, describeConflict, writtenLines } from '../src/sync/describe-conflict.ts'
import { devicesLines } from '../src/sync/describe-devices.ts'
import { type DiffLine, diffOf, shortened } from '../src/sync/diff.ts'
import { winnerOf } from '../src/sync/winner.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const id = (digit: string): string => `019d3c5e-77a1-7000-8000-${digit.repeat(12)}`
const output = createOutput({ json: false, colours: false, results: 1 })
const coloured = createOutput({ json: false, colours: true, results: 1 })
const sideOf = (digit: string, value: unknown) => ({
  ...{ actor: `${id(digit)}~1`, device_id: id(digit), device_name: `machine-${digit}`, value, clock: {} },
})
const parted = {
  ...{ id: id('c'), class: 'workflow_definition', object: 'nightly', path: 'step/build/body' },
  base: { value: 'install\nbuild\ntest' },
  sides: [sideOf('a', 'install\nbuild --fast\ntest'), sideOf('b', 'install\nbuild\ntest\npublish')],
  ...{
    edited: [],
    sides_digest: 'A'.repeat(43),
    opened_at: now - 120_000,
    changed_at: now,
    closed_at: null,
    resolutions: [],
  },
}
const only = (members: object): Conflict =>
  conflictsOf({ conflicts: [{ ...parted, ...members }] }).conflicts[0] as Conflict

test('a conflict shows what the sides had in common, and what each changed of it, whose machine it was', (t) => {
  const lines = describeConflict(only({}), output, { now, here: id('b') })
  t.deepEqual(lines, [
    `Conflict   ${id('c')}`,
    'Object     workflow_definition nightly',
    'Path       step/build/body',
    'Opened     2026-11-21 09:58 UTC, 2 min ago',
    'Base       what each side had seen',
    '      install',
    '      build',
    '      test',
    `Side 1     machine-a (${id('a')})`,
    '      install',
    '    - build',
    '    + build --fast',
    '      test',
    `Side 2     machine-b (${id('b')}), this machine`,
    '      install',
    '      build',
    '      test',
    '    + publish',
  ])
  const painted = describeConflict(only({}), coloured, { now, here: id('b') })
  t.deepEqual(painted.map(stripVTControlCharacters), lines)
  t.notDeepEqual(painted, lines, 'colours where they are wanted')
})

test('what is no text is compared as JSON, and what is deleted or unknown is said to be', (t) => {
  const json = only({
    base: { value: { run: 'make', env: { A: '1' } } },
    sides: [sideOf('a', { run: 'make', env: { A: '2' } }), { ...sideOf('b', null), device_name: null }],
  })
  const told = describeConflict(json, output, { now })
  t.true(told.includes('    -     "A": "1"') && told.includes('    +     "A": "2"'), told.join('\n'))
  t.true(told.includes('    + (deleted)'))
  t.true(told.includes(`Side 2     ${id('b')}`), 'a machine without a name is its id')
  const reopened = only({
    base: null,
    sides: [{ ...sideOf('a', 'x'), device_id: null, device_name: null }, sideOf('b', 'y')],
  })
  const whole = describeConflict(reopened, output, { now })
  t.true(whole.includes('Side 1     the gateway') && whole.includes('      x'))
  t.regex(whole.join('\n'), /\nBase {7}not kept any more/)
})

test('one that no answer has room for is not shown as deleted, and can be decided all the same', (t) => {
  const sides = [sideOf('a', null), sideOf('b', null)]
  const large = only({ omitted: true, base: { value: null }, sides })
  const lines = [
    ...describeConflict(large, output, { now }),
    ...writtenLines(large, winnerOf(large, { take: 1 }), output),
  ].join('\n')
  t.is(lines.match(/\n {6}too large to be shown/g)?.length, 4)
  t.notRegex(lines, /deleted/)
  t.true(writtenLines(large, winnerOf(large, { value: 'mine' }), output).includes('      mine'))
})

test('the list says how to end each conflict, and that none is open', (t) => {
  t.regex(commandsOf(only({})).join(''), new RegExp(`lf gateway sync resolve ${id('c')} --take 1\\|2\\|base`))
  t.regex(commandsOf(only({ base: null })).join(''), /--take 1\|2`/, 'no base where none is kept')
  t.deepEqual(conflictLines({ conflicts: [], more: false }, output), ['No conflict is open.'])
  t.is(conflictLines({ conflicts: [only({})], more: false }, output).at(-1), '1 conflict is open.')
  t.is(conflictLines({ conflicts: [only({}), only({})], more: true }, output).at(-1), '2 conflicts are open, and more.')
})

test('one on whether an object exists says what was edited by who had not seen the deletion', (t) => {
  const life = only({
    path: '$life',
    base: { value: true },
    sides: [sideOf('a', null), sideOf('b', true)],
    edited: ['step/a/body'],
  })
  const lines = describeConflict(life, output, { now })
  t.true(lines.includes('Path       whether it exists (true, or deleted)'), lines.join('\n'))
  t.is(lines.at(-1), 'Meanwhile  edited by who had not seen the deletion: step/a/body')
  t.true(lines.includes('      … 1 line as before'))
})

test('one that is closed says how it is opened again', (t) => {
  const closed = only({
    closed_at: now,
    resolutions: [{ id: id('d'), kind: 'resolve', at: now, by: id('e'), winner: {} }],
  })
  t.regex(
    describeConflict(closed, output, { now }).join('\n'),
    new RegExp(`\nClosed .*lf gateway sync undo ${id('d')}`),
  )
})

test('nothing that another machine wrote acts upon a terminal, coloured or not', (t) => {
  const hostile = 'a\u001b[31mb\u001b[2J\u009b2J\r\nb\u202ec\td'
  const conflict = only({
    ...{ object: hostile, path: hostile, base: { value: hostile } },
    sides: [{ ...sideOf('a', { [hostile]: hostile }), device_name: hostile }, sideOf('b', hostile)],
  })
  for (const line of [
    ...describeConflict(conflict, output, { now }),
    ...writtenLines(conflict, winnerOf(conflict, { value: hostile }), output),
  ])
    t.notRegex(line, /[\p{Cc}\p{Bidi_Control}]/u, line)
  for (const line of describeConflict(conflict, coloured, { now }))
    t.false(line.includes('a\u001b'), 'colours of its own are none of ours')
})

test('a side is taken by the number it is shown with, the base where there is one, or a value of one’s own', (t) => {
  t.deepEqual(winnerOf(only({}), { take: 2 }), { winner: { side: 1 }, value: parted.sides[1]?.value })
  t.deepEqual(winnerOf(only({}), { take: 'base' }), { winner: { base: true }, value: parted.base.value })
  t.deepEqual(winnerOf(only({}), { value: null }), { winner: { value: null }, value: null })
  t.throws(() => winnerOf(only({}), { take: 3 }), { code: 'usage', message: /sides 1 to 2/ })
  t.throws(() => winnerOf(only({ base: null }), { take: 'base' }), { code: 'usage' })
})

test('what is no list of conflicts, no resolution and no status is not shown as one', (t) => {
  for (const wrong of [{}, { conflicts: [{}] }, { conflicts: [{ ...parted, sides: [sideOf('a', 1)] }] }])
    t.throws(() => conflictsOf(wrong), { code: 'internal_error' })
  t.throws(() => resolutionOf({ resolution_id: 'x' }), { code: 'internal_error' })
  t.throws(() => syncStatusOf({ epoch: 1 }), { code: 'internal_error' })
})

const linesOf = fc.array(fc.constantFrom('a', 'b', 'c', ''), { maxLength: 30 })
const side = (lines: readonly DiffLine[], mark: '-' | '+') =>
  lines.filter((line) => line.mark === ' ' || line.mark === mark).map(({ text }) => text)

test('a comparison holds both texts whole, and no line of it that need not be is told as changed', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(linesOf, linesOf, (a, b) => {
        const lines = diffOf(a, b)
        const both = (): boolean =>
          JSON.stringify(side(lines, '-')) === JSON.stringify(a) &&
          JSON.stringify(side(lines, '+')) === JSON.stringify(b)
        return both() && (JSON.stringify(a) !== JSON.stringify(b) || lines.every(({ mark }) => mark === ' '))
      }),
    ),
  )
  const long = Array.from({ length: 3_000 }, (_, index) => `a${index}`)
  const other = Array.from({ length: 3_000 }, (_, index) => `b${index}`)
  t.deepEqual(side(diffOf(long, other), '+'), other, 'too much to compare is told whole')
})

test('what is the same far and wide is left out, and how much of it is said', (t) => {
  const before = Array.from({ length: 20 }, (_, index) => `line ${index}`)
  const told = shortened(diffOf(before, before.toSpliced(10, 1, 'other')))
  t.deepEqual(told[0], { left: 7 })
  t.deepEqual(told.at(-1), { left: 6 })
  t.is(told.length, 10)
  t.deepEqual(shortened(diffOf(before, before)), [{ left: 20 }])
})

const device = {
  ...{ device_id: id('a'), name: 'laptop', trust_level: 'trusted', classes: {}, behind: 0, pending: 0, set_aside: 0 },
  ...{ last_code: null, diverged: [], reported_at: now - 5_000, pulled_at: now - 5_000 },
}
const statusOf = (...devices: object[]) =>
  syncStatusOf({
    ...{ epoch: 1, seq: 42, conflicts: 2, unsequenced: 1, devices },
    leader: { device_id: id('a'), fence: 3, expires_at: now + 20_000 },
  })

test('every machine is told with how far it has come, and what keeps it', (t) => {
  const lines = devicesLines(
    statusOf(
      device,
      { ...device, name: 'desk', behind: 7 },
      { ...device, name: 'old', set_aside: 1, last_code: 'object_limit' },
      { ...device, name: 'odd', diverged: ['agent_config'] },
      {
        ...device,
        name: 'new',
        behind: null,
        pending: null,
        set_aside: null,
        diverged: null,
        reported_at: null,
        pulled_at: null,
      },
    ),
    output,
    now,
  ).join('\n')
  t.regex(lines, /^Changes {4}42, and 1 of the gateway’s own/)
  t.regex(lines, /\nConflicts {2}2 open: `lf gateway sync status --conflicts`/)
  t.regex(lines, /\nLeader {5}laptop \(.*\), its lease ends in 20 s/)
  t.regex(lines, /\nlaptop .* 5 s ago +0 +0 +0 +in step/)
  t.regex(lines, /\ndesk .* 7 +0 +0 +on its way/)
  t.regex(lines, /\nold .* object_limit/)
  t.regex(lines, /\nodd .* sync_diverged: agent_config/)
  t.regex(lines, /\nnew .* never +- +- +- +never reported/)
  t.regex(lines, /\nobject_limit: This account has as many objects/)
  const alone = { ...statusOf(), leader: null, conflicts: 0, unsequenced: 0 }
  t.regex(
    devicesLines(alone, output, now).join('\n'),
    /^Changes {4}42\nConflicts {2}none\nLeader {5}none.*\nNo devices\.$/,
  )
})
