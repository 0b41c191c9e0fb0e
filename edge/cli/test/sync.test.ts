import { type SyncReport, syncReportOf } from '@lenserfight/daemon/checks'
import test from 'ava'
import { createOutput } from '../src/output.ts'
import { pulledOf, pushedOf, waitingOf } from '../src/sync/answers.ts'
import { machineLines } from '../src/sync/describe-machine.ts'
import { pulledLine, pushedLines, waitingLines } from '../src/sync/describe-transfer.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const output = createOutput({ json: false, colours: false, results: 1 })
const well = {
  ...{ gateway_status: 'connected', code: null, epoch: 1, pending: 0, oldest_at: null, in_flight: 0, set_aside: [] },
  ...{
    conflicts: 0,
    beside: 0,
    cursors: {},
    diverged: [],
    leader: { held: false, waiting: false },
    last_push_at: null,
  },
  ...{ last_pull_at: now - 5_000, last_code: null },
}
const told = (members: Partial<SyncReport>): string =>
  machineLines(syncReportOf({ ...well, ...members }), output, now).join('\n')

test('a machine whose sync fares well says so in a few lines', (t) => {
  t.is(
    told({}),
    [
      'Gateway    connected',
      'Waiting    nothing',
      'Set aside  nothing',
      'Conflicts  none',
      'Pulled     5 s ago',
      'Pushed     not yet',
    ].join('\n'),
  )
})

test('what keeps a machine’s edits is told by its code, with what to do', (t) => {
  const away = told({ gateway_status: 'degraded', code: 'gateway_unreachable', pending: 3, oldest_at: now - 120_000 })
  t.regex(away, /^Gateway {4}degraded\nObstacle {3}gateway_unreachable: The gateway does not answer\./)
  t.regex(away, /\nWaiting {4}3 edits to be sent, the oldest made 2 min ago; none of them on its way\n/)
  t.regex(told({ pending: 1, last_code: 'rate_limited' }), /\nObstacle {3}rate_limited: /)
  t.notRegex(told({ last_code: 'rate_limited' }), /Obstacle/, 'what kept nothing is over')
  const refused = { class: 'agent_config', object: 'x y', code: 'object_limit', detail: null, at: now }
  const set = told({ set_aside: [refused] })
  t.regex(set, /\nSet aside {2}1\n {2}agent_config x y\n {4}object_limit: This account.*\n {4}Edit it again/)
  t.regex(set, /`lf gateway objects discard agent_config 'x y'`/)
  t.regex(told({ pending: 2, in_flight: 1 }), /\nWaiting {4}2 edits to be sent; 1 of them on the way\n/)
  t.regex(told({ beside: 2 }), /\nNot read {3}2 paths were written on two machines at once: `lf gateway objects list`/)
  t.regex(told({ conflicts: 2 }), /\nConflicts {2}2: `lf gateway sync status --conflicts`\n/)
  t.regex(told({ diverged: ['policy'] }), /\nDiverged {3}policy: sync_diverged: /)
  t.regex(told({ leader: { held: true, waiting: false } }), /\nLeader {5}this machine/)
  t.regex(told({ leader: { held: false, waiting: true } }), /\nLeader {5}another machine: edits wait/)
})

test('what was sent, pulled or would go is told in numbers and names, never by what it says', (t) => {
  t.is(pulledLine({ rows: 3, objects: 1, done: true }, output), 'pulled: 3 changes of 1 object.')
  t.is(pulledLine({ rows: 0, objects: 0, done: true }, output), 'pulled: nothing new.')
  t.is(
    pulledLine({ rows: 1, objects: 1, done: false }, output),
    'not all: 1 change of 1 object, and there may be more.',
  )
  t.is(pulledLine({ rows: 0, objects: 0, done: false }, output), 'pulled nothing.')
  const sent = (members: object) =>
    pushedLines(pushedOf({ applied: 0, duplicate: 0, refused: 0, pending: 0, ...members }), output)
  t.deepEqual(sent({}), ['Nothing waited to be sent.'])
  t.deepEqual(sent({ applied: 2, duplicate: 1 }), ['sent: 3 edits.'])
  t.regex(sent({ refused: 1 }).join('\n'), /\nrefused: 1 edit\. `lf gateway sync status`/)
  t.regex(sent({ pending: 2 }).join('\n'), /\nwaiting: 2 edits\./)
  const entries = waitingOf({ entries: [{ class: 'lens_draft', object: 'a', paths: ['name', '$life'], bytes: 120 }] })
  const [header, line, last] = waitingLines(entries)
  t.regex(header ?? '', /^CLASS +OBJECT +BYTES +PATHS$/)
  t.regex(line ?? '', /^lens_draft +a +120 +name, whether it exists$/)
  t.regex(last ?? '', /dry run/)
  t.deepEqual(waitingLines([]), ['Nothing waits to be sent.'])
})

test('what another part wrote acts upon no terminal, and what is no answer is not shown as one', (t) => {
  const hostile = 'a\u001b[2J\u202ec'
  const set_aside = [{ class: hostile, object: hostile, code: hostile, detail: hostile, at: now }]
  const all = [told({ gateway_status: hostile, code: hostile, set_aside, diverged: [hostile] }).split('\n')]
  const rows = waitingLines([{ class: hostile, object: hostile, paths: [hostile], bytes: 1 }])
  for (const line of [...all.flat(), ...rows]) t.notRegex(line, /[\p{Cc}\p{Bidi_Control}]/u, line)
  for (const wrong of [
    () => syncReportOf({}),
    () => pulledOf({}),
    () => pushedOf({}),
    () => waitingOf({ entries: [{}] }),
  ])
    t.throws(wrong, { code: 'internal_error' })
})
