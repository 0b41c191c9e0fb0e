import { stripVTControlCharacters } from 'node:util'
import test from 'ava'
import { createOutput } from '../src/output.ts'
import { type Run, runsOf } from '../src/owner/runs.ts'
import { listLines, stateOf } from '../src/runs/describe.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const id = (digit: string): string => `019d3c5e-77a1-7000-8000-${digit.repeat(12)}`
const done = {
  ...{ run_id: id('a'), label: 'make all', command_hash: 'AbCdEfGhIjKl', device_id: id('b'), device_name: 'build' },
  ...{ runner_id: id('c'), runner_name: 'nightly', verdict: 'allow', reason: 'approval_default_allow' },
  ...{ asked_at: now / 1000 - 120, awaits_until: null, open_until: null, attested_at: now / 1000 - 30 },
  ...{ started_at: now / 1000 - 110, ended_at: now / 1000 - 60, exit_code: 0, signal: null, level: 'fully_trusted' },
}
const unattested = {
  ...{ attested_at: null, started_at: null, ended_at: null, exit_code: null, level: 'account_verified' },
}
const only = (members: object): Run => runsOf({ runs: [{ ...done, ...members }] }).runs[0] as Run
const output = createOutput({ json: false, colours: false, results: 1 })
const coloured = createOutput({ json: false, colours: true, results: 1 })

test('what became of a run is told by what is known last', (t) => {
  for (const [members, told] of [
    [{}, 'exit 0'],
    [{ exit_code: 3 }, 'exit 3'],
    [{ exit_code: null, signal: 'SIGTERM' }, 'SIGTERM'],
    [{ verdict: 'deny', reason: 'kill_switch' }, 'exit 0 (denied: kill_switch)'],
    [{ exit_code: null, signal: 'SIGTERM', verdict: 'pause', reason: 'runner_paused' }, 'SIGTERM (paused)'],
    [{ ...unattested, open_until: now / 1000 + 60 }, 'under way'],
    [unattested, 'not attested'],
    [{ ...unattested, verdict: 'deny', reason: 'withdrawn' }, 'taken back'],
    [{ ...unattested, verdict: 'deny', reason: 'approval_denied' }, 'denied by a person'],
    [{ ...unattested, verdict: 'deny', reason: 'budget_used_up' }, 'denied: budget_used_up'],
    [{ ...unattested, verdict: 'pause', reason: 'runner_paused' }, 'paused'],
    [{ ...unattested, verdict: 'require_approval' }, 'expired'],
    [{ ...unattested, verdict: 'require_approval', awaits_until: now / 1000 + 300 }, 'awaits you, expires in 5 min'],
  ] as const) {
    t.is(stateOf(only(members), output, now), told)
    t.is(stripVTControlCharacters(stateOf(only(members), coloured, now)), told)
  }
  t.not(stateOf(only({ exit_code: 3 }), coloured, now), 'exit 3', 'colours where they are wanted')
})

test('the list names device and runner, where older ones are, and what tells more; an empty one what to do', (t) => {
  const waiting = { ...done, ...unattested, run_id: id('d'), label: null, awaits_until: now / 1000 + 60 }
  const list = runsOf({ runs: [waiting, done], more: true, next: id('a') })
  const [header, first, second, older, answer, why, ...rest] = listLines(list, output, false, now)
  t.regex(header ?? '', /^RUN +LABEL +DEVICE +RUNNER +ASKED +ENDED +STATE +LEVEL/)
  t.regex(first ?? '', new RegExp(`^${id('d')} +command AbCdEfGh… +build +nightly +2 min ago +awaits you, .* -$`))
  t.regex(second ?? '', /make all +build +nightly +2 min ago +60 s ago +exit 0 +fully_trusted/)
  t.is(older, `… and older ones: --before ${id('a')}`)
  t.true(answer?.includes(`lf gateway approvals approve ${id('d')}`))
  t.true(why?.includes(`lf gateway explain ${id('d')}`))
  t.deepEqual(rest, [])
  const none = runsOf({ runs: [] })
  t.deepEqual(none, { runs: [], more: false, next: null })
  t.regex(listLines(none, output, false).join('\n'), /^No runs yet\. .*`lf run -- COMMAND`\.$/)
  t.regex(listLines(none, output, true).join('\n'), /^No such runs\. `lf gateway runs` lists all\.$/)
})

test('what others wrote does nothing to a terminal, and what is no list of runs is not shown as one', (t) => {
  const bad = '\u001b]0;t\u0007'
  const list = runsOf({ runs: [{ ...done, label: bad, device_name: bad, runner_name: bad }] })
  t.notRegex(listLines(list, output, false, now).join(''), /\p{Cc}/u)
  for (const wrong of [{}, { runs: {} }, { runs: [{ ...done, run_id: 'x' }] }, { runs: [{ ...done, level: 'best' }] }])
    t.throws(() => runsOf(wrong), { code: 'internal_error' })
})
