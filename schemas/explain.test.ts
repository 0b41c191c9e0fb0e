import test from 'ava'
import {
  type DeviceFact,
  deviceFactSentences,
  deviceFacts,
  type ExecutionFact,
  type Explanation,
  executionFacts,
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
