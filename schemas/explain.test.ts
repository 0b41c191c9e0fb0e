import test from 'ava'
import {
  type DeviceFact,
  deviceFactSentences,
  deviceFacts,
  type ExecutionExplanation,
  type ExecutionFact,
  type Explanation,
  executionFacts,
  isNotYet,
  outcomeOf,
  type PolicyReason,
  policyReasons,
  policyRemedies,
  policySentences,
  remedyOf,
} from './src/index.ts'

const id = '01890000-0000-7000-8000-000000000001'
type Values = Record<string, unknown>
const failedExecution = (fact: ExecutionFact, inputs: Values = {}, subject: Values = { run_id: id }): Explanation => ({
  ...{ kind: 'run', id, level: 'unverified', evaluated_at: 1, subject, first_failed: fact, history: [] },
  rules: [{ level: 'account_verified', fact, holds: false, inputs }],
})
const failedDevice = (fact: DeviceFact, inputs: Values = {}): Explanation => ({
  ...{ kind: 'device', id, level: 'pending', evaluated_at: 1, subject: {}, first_failed: fact, history: [] },
  rules: [{ level: 'approved', fact, holds: false, inputs }],
})
const facts = Object.values(executionFacts).flat() as ExecutionFact[]

test('for every rule that may fail there is a sentence and at most one command, of lf’s own', (t) => {
  const explained = [...facts.map((fact) => failedExecution(fact)), ...deviceFacts.map((fact) => failedDevice(fact))]
  for (const explanation of explained) {
    const remedy = remedyOf(explanation)
    t.regex(remedy?.sentence ?? '', /^[A-Z].*[.:]$/, String(explanation.first_failed))
    const command = remedy?.command ?? null
    if (command !== null) t.regex(command, /^lf [a-z][^\n;&|]*$/, String(explanation.first_failed))
  }
})

test('at the top there is nothing to remedy', (t) => {
  t.is(remedyOf({ ...failedExecution('signed'), first_failed: null }), null)
})

test('what to do follows from what the rule was judged by', (t) => {
  const commandOf = (fact: ExecutionFact, inputs: Values, subject?: Values) =>
    remedyOf(failedExecution(fact, inputs, subject))?.command
  const awaiting = { verdict: 'require_approval', decision: null }
  t.is(commandOf('policy_passed', awaiting), `lf gateway approvals approve ${id}`)
  t.is(commandOf('policy_passed', { ...awaiting, decision: 'deny' }), 'lf gateway approvals')
  t.is(commandOf('policy_passed', { verdict: 'allow', withdrawn_reason: 'runner_paused' }), 'lf gateway policy show')
  t.is(commandOf('policy_passed', { verdict: 'allow', as_permitted: false }), 'lf run -- COMMAND')
  t.is(commandOf('policy_passed', { as_permitted: true, tools_denied: 1 }), 'lf gateway policy show')
  t.is(commandOf('policy_passed', { tools_denied: 0, tools_attested: 2, tools_logged: 1 }), 'lf run -- COMMAND')
  t.is(commandOf('policy_passed', { tools_denied: 0, tools_attested: 0, tools_logged: 0 }), 'lf gateway doctor')
  t.is(commandOf('device_trusted', { device_id: id, device_level: 'unhealthy' }), `lf gateway reinstate-device ${id}`)
  t.is(commandOf('version_unchanged', { version_id: id }), `lf run --lens-version ${id} -- COMMAND`)
  t.is(commandOf('requester_is_submitter', {}, { run_id: null }), `lf run --submission ${id} -- COMMAND`)
  t.is(commandOf('requester_is_submitter', {}), null)
  const forked = remedyOf(failedDevice('not_unhealthy', { reason: 'identity_forked' }))
  t.is(forked?.command, 'lf gateway identity reprove')
})

test('a runner’s name that a shell would read otherwise is not put into a command', (t) => {
  const commandOf = (runner_name: string) => remedyOf(failedExecution('binding_active', {}, { runner_name }))?.command
  t.is(commandOf('nightly-2'), 'lf gateway runners bind nightly-2')
  for (const name of ['$(rm -rf ~)', 'a b', '', 'x;y']) t.is(commandOf(name), 'lf gateway runners bind NAME')
})

test('every rule of the device ladder has its sentence', (t) => {
  t.deepEqual(Object.keys(deviceFactSentences), [...deviceFacts])
})

/** A run that nothing was attested of, with what the policy said of it. */
const unattested = (
  policy: Values,
  first: ExecutionFact = 'attested',
  attested: Values = {},
): ExecutionExplanation => ({
  ...(failedExecution(first) as ExecutionExplanation),
  rules: [
    { level: 'device_verified', fact: 'attested', holds: false, inputs: { attestation_id: null, ...attested } },
    { level: 'device_verified', fact: 'heartbeat_fresh', holds: false, inputs: {} },
    { level: 'runner_verified', fact: 'runner_named', holds: false, inputs: {} },
    { level: 'fully_trusted', fact: 'policy_passed', holds: false, inputs: policy },
  ],
})
const asked = { verdict: 'require_approval', reason: 'approval_default_require_human', decision: null }

test('a run that the policy refused has the reason and what ends it, before any rule of the ladder', (t) => {
  for (const [verdict, reason, command] of [
    ['deny', 'budget_used_up', 'lf gateway policy set --daily-runs N'],
    ['deny', 'kill_switch', null],
    ['pause', 'runner_paused', 'lf gateway policy set --lenser-paused off'],
  ] as const) {
    for (const first of ['attested', 'contender_is_agent'] as const) {
      const explanation = unattested({ verdict, reason }, first)
      t.is(outcomeOf(explanation), `refused: ${policySentences[reason]} (${reason}). Nothing ran.`)
      t.deepEqual(remedyOf(explanation), policyRemedies[reason])
      t.is(remedyOf(explanation)?.command, command)
    }
  }
})

test('a run that a person did not let begin says so, and how it may yet run', (t) => {
  const told = (policy: Values) => {
    const explanation = unattested({ ...asked, ...policy })
    return [outcomeOf(explanation), remedyOf(explanation)?.command]
  }
  const waits = 'not decided yet: each run awaits a person (approval_default_require_human). Nothing ran yet.'
  t.deepEqual(told({ answer_expired: false }), [waits, `lf gateway approvals approve ${id}`])
  const denied = 'denied: a person denied it (approval_denied). Nothing ran.'
  t.deepEqual(told({ decision: 'deny', answer_expired: false }), [denied, 'lf run -- COMMAND'])
  const why = { decision: 'deny', decision_reason: 'not tonight', answer_expired: false }
  t.is(told(why)[0], 'denied: a person denied it (approval_denied): not tonight. Nothing ran.')
  t.notRegex(remedyOf(unattested({ ...asked, ...why }))?.sentence ?? '', /in time/, 'it was not late')
  const later = { ...why, decision: 'approve', withdrawn_reason: 'kill_switch' }
  t.notRegex(told(later)[0] ?? '', /not tonight/, 'a person’s reason is of the person’s answer')
  const givenUp = { decision: 'withdraw', withdrawn_reason: 'withdrawn', answer_expired: false }
  t.regex(told(givenUp)[0] ?? '', /^taken back: /)
  t.notRegex(remedyOf(unattested({ ...asked, ...givenUp }))?.sentence ?? '', /in time/)
  const expired = 'expired: nobody answered in time (approval_expired). Nothing ran.'
  t.deepEqual(told({ answer_expired: true }), [expired, 'lf run -- COMMAND'])
})

test('of a run that was let begin and attested nothing, the outbox of its machine tells more', (t) => {
  for (const [policy, said] of [
    [{ verdict: 'allow', reason: 'approval_default_allow' }, /^allowed: .* Nothing is attested\.$/],
    [{ ...asked, decision: 'approve', answer_expired: false }, /^approved: .*\(approved\)\. Nothing is attested\.$/],
    [{ verdict: 'allow', reason: 'approval_default_allow', withdrawn_reason: 'kill_switch' }, /withdrawn: .*\(kill_sw/],
  ] as const) {
    t.regex(outcomeOf(unattested(policy)) ?? '', said)
    t.is(remedyOf(unattested(policy))?.command, 'lf gateway status')
    t.regex(remedyOf(unattested(policy))?.sentence ?? '', /started and never completed/)
    t.regex(
      remedyOf(unattested(policy, 'contender_is_agent'))?.command ?? '',
      /--runner/,
      'what failed before goes first',
    )
  }
})

test('a run that the policy ended on its way says so, and what lifts that, though another rule fails before', (t) => {
  const allowed = { verdict: 'allow', reason: 'approval_default_allow' }
  const ended = { withdrawn_reason: 'runner_paused', withdrawn_at: 100, claimed_end_at: 101 }
  const of = (policy: Values) => unattested(policy, 'contender_is_agent', { attestation_id: id })
  const said = /^allowed at first, then withdrawn: .*are paused \(runner_paused\)\. What ran is attested\.$/
  for (const before of [allowed, { ...asked, decision: 'approve' }]) {
    t.regex(outcomeOf(of({ ...before, ...ended })) ?? '', said)
    t.is(remedyOf(of({ ...before, ...ended }))?.command, 'lf gateway policy set --lenser-paused off')
  }
  for (const policy of [allowed, { ...allowed, ...ended, withdrawn_at: 102 }, { ...asked, ...ended }]) {
    t.is(outcomeOf(of(policy)), null)
    t.regex(remedyOf(of(policy))?.command ?? '', /--runner/)
  }
})

test('tools that the policy denied are named, where they are known', (t) => {
  const told = (more: Values) =>
    remedyOf(failedExecution('policy_passed', { verdict: 'allow', tools_denied: 2, ...more }))
  t.is(told({ denied_tools: ['db/read', 'net'] })?.sentence, 'It asked for what the policy denies: db/read, net.')
  t.is(told({})?.sentence, 'It asked for what the policy denies.')
})

test('what was attested, or never asked for, has no such outcome', (t) => {
  const policy = { verdict: 'deny', reason: 'kill_switch' }
  t.is(outcomeOf(unattested(policy, 'attested', { attestation_id: id })), null)
  t.is(outcomeOf(unattested({})), null)
  t.is(outcomeOf(failedExecution('policy_passed', policy)), null)
  t.is(outcomeOf(failedDevice('owner_approved')), null)
})

test('what only an attestation can show is not yet, unless the run is known never to have begun', (t) => {
  const notYet = (policy: Values, more: object = {}): string[] => {
    const explanation = { ...unattested(policy), ...more } as Explanation
    return explanation.rules.filter((rule) => isNotYet(explanation, rule)).map(({ fact }) => fact)
  }
  t.deepEqual(notYet(asked), ['heartbeat_fresh', 'policy_passed'])
  t.deepEqual(notYet({ verdict: 'deny', reason: 'kill_switch' }), ['heartbeat_fresh'])
  const [attested, ...rest] = unattested(asked).rules
  t.deepEqual(notYet(asked, { rules: [{ ...attested, holds: true }, ...rest] }), [])
})

test('every reason of the policy has its sentence, and whatever stands against a run what ends it', (t) => {
  t.deepEqual(Object.keys(policySentences).sort(), [...policyReasons].sort())
  const ended = policyReasons.filter((reason) => policyRemedies[reason] === undefined)
  t.deepEqual(ended, ['approval_default_allow', 'approved'] satisfies PolicyReason[])
})
