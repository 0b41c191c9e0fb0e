import { CodedError, policyReasons, policySentences, policyVerdicts } from '@lenserfight/schemas'
import test from 'ava'
import { checkDenials } from '../src/commands/policy.ts'
import { judgePause, judgePolicy } from '../src/doctor/policy.ts'
import { createOutput } from '../src/output.ts'
import { type Policy, policyOf, verdictOf } from '../src/owner/policy.ts'
import { describePolicy } from '../src/policy/describe.ts'
import { codeOfVerdict, sayRemedy, sayVerdict } from '../src/policy/words.ts'

const output = createOutput({ json: false, colours: false, results: 1 })
const now = Date.parse('2026-11-21T10:00:00Z')
const answer = (settings: object = {}, used: object = {}): Policy =>
  policyOf({
    settings: {
      ...{ approval_default: 'allow', runner_paused: false, daily_runs: null, max_parallel_runs: null },
      ...{ dark_launch_percent: 100, approval_seconds: 600, denied_tools: [], kill_switch: false },
      ...settings,
    },
    used: { runs_today: 0, parallel_runs: 0, ...used },
    changed_at: now / 1000 - 3600,
  })

test('a policy is told with what is used up of it', (t) => {
  t.deepEqual(describePolicy(answer({}, { runs_today: 3 }), output, now), [
    'Lenser        not paused',
    'Approval      allow: what no other rule stops runs',
    'Answer within 10 min',
    'Runs today    3, without a bound',
    'At once       0, without a bound',
    'Dark launch   100 % of workflows',
    'Denied tools  none',
    'Changed       2026-11-21 09:00 UTC, 60 min ago',
  ])
  const strict = answer(
    {
      ...{ approval_default: 'require_human', runner_paused: true, kill_switch: true, daily_runs: 3 },
      ...{ max_parallel_runs: 2, denied_tools: ['shell', 'mcp/*'] },
    },
    { runs_today: 3, parallel_runs: 1 },
  )
  const lines = describePolicy(strict, output, now)
  for (const line of [
    'Kill switch   on: nothing runs',
    'Lenser        paused: nothing runs, nothing is attested',
    'Approval      require-human: each run awaits `lf gateway approvals`',
    'Runs today    3 of 3: used up',
    'At once       1 of 2',
    'Denied tools  shell, mcp/*',
  ]) {
    t.true(lines.includes(line), line)
  }
})

test('what is no policy, or no verdict, is not shown as one', (t) => {
  const { settings, used } = answer()
  for (const wrong of [{}, null, { settings, used }, { settings: {}, used, changed_at: null }]) {
    t.throws(() => policyOf(wrong), { code: 'internal_error' })
  }
  for (const wrong of [{}, { verdict: 'allow', reason: 'because' }, { verdict: 'maybe', reason: 'approved' }]) {
    t.throws(() => verdictOf(wrong), { code: 'internal_error' })
  }
})

test('every verdict and every reason is told in words, with its code', (t) => {
  t.is(new Set(Object.values(policySentences)).size, policyReasons.length)
  t.deepEqual(Object.keys(codeOfVerdict).sort(), [...policyVerdicts].sort())
  t.is(
    sayVerdict({ verdict: 'require_approval', reason: 'approval_default_require_human' }),
    'require approval: each run awaits a person (approval_default_require_human)',
  )
  t.is(sayRemedy('runner_paused'), 'As the owner: `lf gateway policy set --lenser-paused off`.')
  t.is(sayRemedy('kill_switch'), 'It is the platform’s to lift.')
  t.is(sayRemedy('approval_default_allow'), undefined)
})

test('the doctor passes where runs go on, warns where each awaits a person, and fails with the code that runs get', (t) => {
  t.like(judgePolicy({ verdict: 'allow', reason: 'approval_default_allow' }), { ok: true })
  const asked = judgePolicy({ verdict: 'require_approval', reason: 'approval_default_require_human' })
  t.true(asked.ok && asked.warning?.includes('lf gateway approvals'))
  t.like(judgePolicy({ verdict: 'pause', reason: 'runner_paused' }), { ok: false, code: 'workspace_paused' })
  const denied = judgePolicy({ verdict: 'deny', reason: 'budget_used_up' })
  t.like(denied, { ok: false, code: 'policy_denied' })
  t.regex(denied.detail ?? '', /used up \(budget_used_up\)/)
  t.like(judgePause({ trust_level: 'approved', paused: true }), { ok: false, code: 'workspace_paused' })
  t.like(judgePause({ trust_level: 'approved', code: 'workspace_paused' }), { ok: false, code: 'workspace_paused' })
  t.like(judgePause({ trust_level: 'approved', paused: false }), { ok: true })
})

test('what is not denied by that name is not taken back in silence', (t) => {
  const check = (denied: string[], denyTool: string[], allowTool: string[]) =>
    checkDenials(denied, { denyTool, allowTool })
  const many = (count: number, chars = 1) => Array.from({ length: count }, (_, n) => `${'t'.repeat(chars)}${n}`)
  // What is full already can be taken from, and one exchanged for another.
  t.notThrows(() => check(many(300), [], ['t1']))
  t.notThrows(() => check(many(200), ['t1', 'other'], ['t2']))
  t.notThrows(() => check([], ['shell', 'mcp/*', 'shell'], []))
  t.notThrows(() => check(['shell', 'mcp/*'], ['net'], ['shell']))
  for (const [denied, denyTool, allowTool, said] of [
    [[], [], ['shell'], /shell is not denied by that name: none is/],
    [many(200), many(257), [], /^--deny-tool: 257 tools would be denied, 256 are the most; mcp\/\*/],
    [[], many(30, 100), [], /^--deny-tool: the names of what would be denied take \d+ bytes, 2048 are the most/],
    [['mcp/*'], [], ['mcp/read'], /mcp\/read is not denied by that name: denied are mcp\/\*/],
    [[], ['shell'], ['shell'], /denied and allowed at once/],
  ] as const) {
    const error = t.throws(() => check([...denied], [...denyTool], [...allowTool]), { instanceOf: CodedError })
    t.regex((error as CodedError).detail ?? '', said)
  }
})
