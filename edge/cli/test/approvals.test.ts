import test from 'ava'
import { describe, listLines, rowOf } from '../src/approvals/describe.ts'
import { createOutput } from '../src/output.ts'
import { type Approval, approvalsOf } from '../src/owner/approvals.ts'
import { severalMeant } from '../src/owner/find.ts'

const output = createOutput({ json: false, colours: false, results: 1 })
const now = Date.parse('2026-11-21T10:00:00Z')
const id = (digit: string): string => `019d3c5e-77a1-7000-8000-${digit.repeat(12)}`
const waiting = {
  ...{ run_id: id('a'), device_id: id('b'), device_name: 'build', runner_id: id('c'), runner_name: 'nightly' },
  ...{ label: 'make', command_hash: 'Zm9vYmFy', submission_id: null, version_id: null },
  ...{ requested_at: now / 1000 - 60, expires_at: now / 1000 + 540, decision: null, decided_at: null, reason: null },
}
const listOf = (...approvals: object[]) => approvalsOf({ approvals, more: false })
const only = (approval: object): Approval => listOf(approval).approvals[0] as Approval

test('a run that awaits a person is told with what it is, where it is to run, and until when', (t) => {
  t.deepEqual(rowOf(only(waiting), now), [
    ...[id('a'), 'make', 'Zm9vYmFy…', 'build', 'nightly', '60 s ago', 'awaits you, expires in 9 min'],
  ])
  const bare = only({ ...waiting, label: null, runner_id: null, runner_name: null })
  t.deepEqual(rowOf(bare, now).slice(1, 5), ['command Zm9vYmFy…', 'Zm9vYmFy…', 'build', ''])
})

test('one that was decided, or that nobody answered in time, says so', (t) => {
  const state = (more: object): string => rowOf(only({ ...waiting, ...more }), now).at(-1) as string
  t.is(state({ decision: 'approve', decided_at: now / 1000 - 10 }), 'approved 10 s ago')
  t.is(state({ decision: 'deny', decided_at: now / 1000 - 10 }), 'denied 10 s ago')
  const denied = { decision: 'deny', decided_at: now / 1000 - 10, reason: 'not tonight' }
  t.is(state(denied), 'denied 10 s ago: not tonight')
  t.is(describe(only({ ...waiting, ...denied }), now).at(-1), 'State      denied 10 s ago: not tonight')
  t.is(state({ expires_at: now / 1000 - 10 }), 'expired 10 s ago')
})

test('the list says how to answer, and that none waits', (t) => {
  const lines = listLines(listOf(waiting), output, now)
  t.regex(lines[0] ?? '', /^RUN +LABEL +COMMAND +DEVICE/)
  t.is(lines.at(-1), `\`lf gateway approvals approve ${id('a')}\`, or deny.`)
  t.deepEqual(listLines(listOf(), output, now), ['No run awaits approval.'])
  const expired = listLines(listOf({ ...waiting, expires_at: now / 1000 - 1 }), output, now)
  t.is(expired[0], 'No run awaits approval.')
  t.is(expired.length, 3, 'those of late are listed all the same')
})

test('what a person looks at before answering says what is the device’s word alone', (t) => {
  const lines = describe(only({ ...waiting, submission_id: id('e'), version_id: id('f') }), now)
  for (const line of [
    `Run        ${id('a')}`,
    'Label      make (the device’s word)',
    'Command    Zm9vYmFy',
    `Device     build (${id('b')})`,
    `Runner     nightly (${id('c')})`,
    `Version    ${id('f')}`,
    `Submission ${id('e')}`,
    'State      awaits you, expires in 9 min',
  ]) {
    t.true(lines.includes(line), line)
  }
})

test('nothing that a device or another key of the account named acts upon a terminal', (t) => {
  const hostile = 'a\u001b[2J\u009b2J\r\nb\u202ec'
  const approval = only({
    ...{ ...waiting, label: hostile, device_name: hostile, runner_name: hostile },
    ...{ decision: 'deny', decided_at: now / 1000, reason: hostile },
  })
  for (const line of [...describe(approval, now), ...rowOf(approval, now)]) {
    t.notRegex(line, /[\p{Cc}\p{Bidi_Control}]/u, line)
  }
})

test('what is no list of runs is not shown as one', (t) => {
  for (const wrong of [{}, { approvals: [{}] }, { approvals: [{ ...waiting, decision: 'maybe' }] }]) {
    t.throws(() => approvalsOf(wrong), { code: 'internal_error' })
  }
})

test('a beginning of several ids is told as what it is, and not as a run that there is not', (t) => {
  const { code, message } = severalMeant('01a1ff49\u001b', [id('a'), id('b')])
  t.is(code, 'usage')
  const said = `01a1ff49\ufffd is the beginning of several: ${id('a')}, ${id('b')}; give more of it`
  t.true(message.endsWith(`(${said})`), message)
})
