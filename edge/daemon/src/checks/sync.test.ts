import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import { judgeSync, type SyncReport, syncReportOf } from './index.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const minutes = (count: number): number => now - count * 60_000
const moment = { now, since: minutes(60) }
const well: SyncReport = syncReportOf({
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
})
const judge = (members: Partial<SyncReport>, at = moment) => judgeSync({ ...well, ...members }, at)
const codeOf = (members: Partial<SyncReport>, at = moment) => {
  const verdict = judge(members, at)
  return verdict.ok ? null : verdict.code
}
const refused = { class: 'agent_config', object: 'a', code: 'object_limit', detail: null, at: now }

test('a sync is well that pulled of late, and whose edits go out', (t) => {
  t.is(codeOf({}), null)
  t.is(codeOf({ pending: 5, oldest_at: now - 10_000 }), null)
  t.is(judge({}).detail, 'pulled 5 s ago, nothing waits')
  const begun = { now, since: now - 5_000 }
  t.is(codeOf({ last_pull_at: null }, begun), null, 'it has just begun')
  t.is(codeOf({ last_pull_at: minutes(600) }, begun), null, 'its machine slept or was off')
})

test('what is refused, missed, stuck or different has its code, and what to do', (t) => {
  t.is(codeOf({ set_aside: [refused] }), 'object_limit')
  t.is(codeOf({ set_aside: [{ ...refused, code: 'a_later_one' }] }), 'invalid_object', 'a code of a later gateway')
  t.is(codeOf({ last_pull_at: minutes(3) }), 'answer_timeout')
  t.is(codeOf({ code: 'gateway_unreachable' }), 'gateway_unreachable', 'however short')
  t.is(codeOf({ code: 'workspace_paused' }), null, 'that keeps runs alone')
  t.is(codeOf({ last_pull_at: minutes(3), code: 'workspace_paused' }), 'answer_timeout')
  t.is(codeOf({ last_pull_at: minutes(3), last_code: 'unavailable' }), 'unavailable')
  t.is(codeOf({ last_pull_at: null, code: 'device_pending' }, { now, since: now - 1_000 }), 'device_pending')
  t.is(codeOf({ pending: 1, oldest_at: minutes(2), last_code: 'rate_limited' }), 'rate_limited')
  t.is(codeOf({ diverged: ['policy'] }), 'sync_diverged')
  const verdict = judge({ set_aside: [refused, refused] })
  t.is(verdict.detail, 'set aside: agent_config a and 1 more')
  t.regex(verdict.ok ? '' : (verdict.fix ?? ''), /`lf gateway sync status`.*`lf gateway objects discard`/)
})

test('a conflict, and edits that wait for their turn, are told and are no failure', (t) => {
  const warningOf = (members: Partial<SyncReport>) => {
    const verdict = judge(members)
    return verdict.ok ? verdict.warning : undefined
  }
  t.regex(warningOf({ conflicts: 1 }) ?? '', /^1 conflict awaits your decision: `lf gateway sync status --conflicts`$/)
  const waiting = { pending: 2, oldest_at: minutes(5), leader: { held: false, waiting: true } }
  t.regex(warningOf(waiting) ?? '', /^edits wait until another machine/)
  t.is(codeOf({ ...waiting, last_code: 'rate_limited' }), 'rate_limited', 'that is no turn that it waits for')
})

test('what is no report is not judged', (t) => {
  const error = t.throws(() => syncReportOf({ pending: 'many' }), { instanceOf: CodedError })
  t.is(error?.code, 'internal_error')
})
