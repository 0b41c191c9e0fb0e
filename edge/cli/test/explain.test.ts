import test from 'ava'
import { describeExplanation } from '../src/explain/describe.ts'
import { createOutput } from '../src/output.ts'
import { explanationOf } from '../src/owner/explain.ts'

const output = createOutput({ json: false, colours: false, results: 1 })
const now = Date.parse('2026-11-21T10:00:00Z')
const id = (digit: string): string => `019d3c5e-77a1-7000-8000-${digit.repeat(12)}`
const at = now / 1000 - 60
const answer = {
  ...{ kind: 'run', id: id('a'), level: 'agent_verified', evaluated_at: at, first_failed: 'heartbeat_fresh' },
  subject: { label: 'make', device_name: 'build', submission_id: null, started_at: at - 60 },
  rules: [
    { level: 'account_verified', fact: 'requester_is_submitter', holds: true, inputs: { requester: '019d3c5e' } },
    { level: 'device_verified', fact: 'attested', holds: true, inputs: {} },
    {
      level: 'device_verified',
      fact: 'heartbeat_fresh',
      holds: false,
      inputs: { last_heartbeat_at: at - 600, runner_id: null },
    },
    {
      level: 'fully_trusted',
      fact: 'policy_passed',
      holds: false,
      inputs: { tools: ['a', 'b'], denied: 0, whole: true },
    },
  ],
  history: [
    { level: 'agent_verified', reason: 'heartbeat_fresh', at },
    { level: 'unverified', reason: null, at: at - 3600 },
  ],
}
const remedy = { sentence: 'Keep the daemon running.', command: 'lf gateway serve' }
const told = (more: object = {}, fix: typeof remedy | null = remedy): string[] =>
  describeExplanation(explanationOf({ ...answer, ...more }), fix, output, now)

test('a level is told rule by rule, with what each was judged by, the first that failed, and what to do', (t) => {
  t.deepEqual(told(), [
    `Run        ${id('a')}`,
    '           label make · device name build · started 2026-11-21 09:58 UTC',
    'Level      agent_verified',
    'Judged     2026-11-21 09:59 UTC, 60 s ago',
    '  ✓ account_verified',
    '    ✓ requester_is_submitter: the run was asked for by the account that submits it',
    '        requester 019d3c5e',
    '  · device_verified',
    '    ✓ attested: an attestation of this run is on record',
    '    ✗ heartbeat_fresh: a heartbeat of the runner, or of the device where no runner is named, was stored in the five minutes before  ← the first that failed',
    '        last heartbeat 2026-11-21 09:49 UTC · runner none',
    '  · fully_trusted',
    '    ✗ policy_passed: the policy allowed the run from its start to its end, it is what was permitted, and its tool log is whole',
    '        tools a, b · denied 0 · whole yes',
    'Before     unverified, 2026-11-21 08:59 UTC, 61 min ago',
    'Next       Keep the daemon running.',
    '           lf gateway serve',
  ])
})

test('what is trusted in full needs nothing, and says so by saying nothing more', (t) => {
  const rules = answer.rules.map((rule) => ({ ...rule, holds: true }))
  const lines = told({ level: 'fully_trusted', first_failed: null, rules, history: answer.history.slice(0, 1) }, null)
  t.notRegex(lines.join('\n'), /✗|←|Next|Before/)
})

test('a submission’s id stands apart from its label', (t) => {
  t.is(told({ kind: 'submission' })[0], `Submission ${id('a')}`)
})

test('a level of before is told once, and one that was judged anew as it stood not at all', (t) => {
  const [newest] = answer.history
  const before = (...history: object[]) =>
    told({ history: [newest, ...history] }).filter((line) => /^(?:Before)? +\w+_?verified.* ago$/.test(line))
  const same = { level: 'agent_verified', reason: 'attested', at: at - 60 }
  const lower = { level: 'unverified', reason: null, at: at - 3600 }
  t.deepEqual(before(same), [])
  t.deepEqual(before(same, lower, { ...lower, at: at - 7200 }), [
    'Before     unverified, 2026-11-21 08:59 UTC, 61 min ago',
  ])
})

test('what there is not is named together where it is much', (t) => {
  const [rule] = answer.rules
  const inputs = { verdict: 'allow', a: null, b: null, decided_at: null }
  const lines = told({ rules: [{ ...rule, holds: false, inputs }] })
  t.true(lines.includes('        verdict allow · none: a, b, decided'))
})

test('what holds shows nothing that there is not', (t) => {
  const [rule] = answer.rules
  const lines = told({ rules: [{ ...rule, inputs: { requester: '019d3c5e', contender_id: null } }] })
  t.true(lines.includes('        requester 019d3c5e'))
})

test('a run that never began says so first, and what only an attestation shows is not yet', (t) => {
  const rules = [
    { level: 'device_verified', fact: 'attested', holds: false, inputs: { attestation_id: null } },
    { level: 'device_verified', fact: 'heartbeat_fresh', holds: false, inputs: { runner_id: null } },
    {
      level: 'fully_trusted',
      fact: 'policy_passed',
      holds: false,
      inputs: { verdict: 'deny', reason: 'budget_used_up', decision: null },
    },
  ]
  const lines = told({ rules, first_failed: 'attested' })
  t.is(lines[2], 'Outcome    refused: the runs of today are used up (budget_used_up). Nothing ran.')
  t.deepEqual(lines.slice(5, -3), [
    '  · device_verified',
    '    ✗ attested: an attestation of this run is on record  ← the first that failed',
    '        attestation none',
    '    · heartbeat_fresh (not yet): a heartbeat of the runner, or of the device where no runner is named, was stored in the five minutes before',
    '  · fully_trusted',
    '    ✗ policy_passed: the policy allowed the run from its start to its end, it is what was permitted, and its tool log is whole',
    '        verdict at start deny · reason at start budget_used_up',
  ])
})

test('a level is reached where those before it are', (t) => {
  const holding = (failed: string) => answer.rules.map((rule) => ({ ...rule, holds: rule.fact !== failed }))
  const lines = told({ rules: holding('requester_is_submitter'), first_failed: 'requester_is_submitter' })
  t.deepEqual(
    lines.filter((line) => /^ {2}\S/.test(line)),
    ['  · account_verified', '  · device_verified', '  · fully_trusted'],
  )
})

test('a device is told by its own ladder; what it earned once it keeps', (t) => {
  const rules = [
    { level: 'approved', fact: 'owner_approved', holds: true, inputs: { approved_at: at } },
    { level: 'trusted', fact: 'heard_lately', holds: false, inputs: { last_heartbeat_at: null } },
  ]
  const history = [{ level: 'trusted', reason: null, at: null }]
  const more = { kind: 'device', level: 'trusted', first_failed: null, subject: { name: 'build' }, rules, history }
  t.deepEqual(told(more, null), [
    `Device     ${id('a')}`,
    '           name build',
    'Level      trusted',
    'Judged     2026-11-21 09:59 UTC, 60 s ago',
    '  ✓ approved',
    '    ✓ owner_approved: its owner approved it',
    '        approved 2026-11-21 09:59 UTC',
    '  ✓ trusted',
    '    ✗ heard_lately: a heartbeat was stored within the last 24 hours',
    '        last heartbeat none',
  ])
})

test('nothing that somebody else named acts upon a terminal', (t) => {
  const hostile = 'a\u001b[2J\u009b2J\r\nb\u202ec'
  const rule = {
    ...answer.rules[0],
    holds: false,
    inputs: { [hostile]: hostile, deep: { a: hostile }, list: [hostile] },
  }
  const history = [answer.history[0], { level: 'unverified', reason: hostile, at }]
  const lines = told({ subject: { name: hostile }, rules: [rule], history }, { sentence: hostile, command: hostile })
  for (const line of lines) t.notRegex(line, /[\p{Cc}\p{Bidi_Control}]/u, line)
})

test('what explains nothing is not shown as if it did', (t) => {
  const wrong: object[] = [
    { kind: 'account' },
    { id: 'x' },
    { rules: {} },
    { rules: [{}] },
    { history: null },
    { level: 1 },
  ]
  for (const more of wrong) t.throws(() => explanationOf({ ...answer, ...more }), { code: 'internal_error' })
})
