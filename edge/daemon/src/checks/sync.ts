import { CodedError, isReasonCode, Nullable, type ReasonCode } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { spanOf } from '../span.ts'
import type { Verdict } from './types.ts'

const Time = Nullable(Type.Number())
const Code = Nullable(Type.String())
/** What the daemon says of its sync. Times are Unix milliseconds. */
export const SyncReport = Type.Object({
  gateway_status: Type.String(),
  /** What keeps it from the gateway. */
  code: Code,
  /** Edits that have no result yet, and since when the oldest waits. */
  pending: Type.Number(),
  oldest_at: Time,
  in_flight: Type.Number(),
  /** Objects whose edits the gateway refused. */
  set_aside: Type.Array(
    Type.Object({
      class: Type.String(),
      object: Type.String(),
      code: Type.String(),
      detail: Nullable(Type.String()),
      at: Type.Number(),
    }),
  ),
  conflicts: Type.Number(),
  /** Paths with a write that is not read, made at the same time as the one that is. */
  beside: Type.Number(),
  /** Classes whose objects differ from the gateway's although all was pulled. */
  diverged: Type.Array(Type.String()),
  /** Of what one machine alone may send: whether this is it, and whether edits wait until it is. */
  leader: Type.Object({ held: Type.Boolean(), waiting: Type.Boolean() }),
  last_push_at: Time,
  last_pull_at: Time,
  last_code: Code,
})
export type SyncReport = Static<typeof SyncReport>

/** @throws CodedError `internal_error` where the answer is no such report */
export const syncReportOf = (answer: unknown): SyncReport => {
  if (!Check(SyncReport, answer)) throw new CodedError('internal_error', 'the answer is not a sync status')
  return answer
}

/** Pulls come every few seconds and edits go out as often: what took this long is not on its way, milliseconds. */
const lateMs = 60_000

const setAsideFix =
  '`lf gateway sync status` lists them: edit one again with `lf gateway objects set`, or give its edits up with `lf gateway objects discard`.'

/** What keeps it, as it said last. */
const obstacleOf = ({ code, last_code }: SyncReport): ReasonCode => {
  const known = [code === 'workspace_paused' ? null : code, last_code].find(isReasonCode)
  return known ?? 'answer_timeout'
}

const spanSince = (at: number, now: number): string => spanOf((now - at) / 1000)

/** Whether something keeps the daemon from the gateway; a pause keeps runs alone. */
const isKept = ({ code }: SyncReport): boolean => code !== null && code !== 'workspace_paused'

/** Whether nothing was pulled for too long, by a daemon that had the time. */
const isSilent = ({ last_pull_at: at }: SyncReport, { now, since }: Moment): boolean =>
  now - Math.max(at ?? 0, since) > lateMs

/** Edits of what another machine may send just now wait for nothing that is wrong. */
const awaitsTurn = ({ pending, leader, last_code }: SyncReport): boolean =>
  pending > 0 && leader.waiting && (last_code === null || last_code === 'not_leader')

const isStuck = (report: SyncReport, { now }: Moment): boolean => {
  const { pending, oldest_at: at } = report
  return pending > 0 && !awaitsTurn(report) && at !== null && now - at > lateMs
}

export interface Moment {
  /** Milliseconds since 1970. */
  readonly now: number
  /** Since when the daemon runs, milliseconds since 1970. */
  readonly since: number
}

const warningOf = (report: SyncReport): string | undefined => {
  const { conflicts } = report
  if (conflicts > 0) {
    const open = conflicts === 1 ? '1 conflict awaits' : `${conflicts} conflicts await`
    return `${open} your decision: \`lf gateway sync status --conflicts\``
  }
  return awaitsTurn(report) ? 'edits wait until another machine has sent its own' : undefined
}

/** The sync by the daemon's own report: that nothing is refused, stuck, missed or different (DG-4). Pure. */
export const judgeSync = (report: SyncReport, moment: Moment): Verdict => {
  const { set_aside, diverged, pending, oldest_at, last_pull_at } = report
  const [first] = set_aside
  const data = { ...report }
  if (first !== undefined) {
    const code = isReasonCode(first.code) ? first.code : 'invalid_object'
    const others = set_aside.length === 1 ? '' : ` and ${set_aside.length - 1} more`
    return { ok: false, code, detail: `set aside: ${first.class} ${first.object}${others}`, fix: setAsideFix, data }
  }
  // Said by its code alone: other checks say more of it.
  if (isKept(report)) return { ok: false, code: obstacleOf(report), data }
  if (isSilent(report, moment)) {
    const detail = last_pull_at === null ? undefined : `nothing was pulled for ${spanSince(last_pull_at, moment.now)}`
    return { ok: false, code: obstacleOf(report), detail, data }
  }
  if (isStuck(report, moment)) {
    const detail = `${pending} edits wait to be sent, the oldest for ${spanSince(oldest_at as number, moment.now)}`
    return { ok: false, code: obstacleOf(report), detail, data }
  }
  if (diverged.length > 0) return { ok: false, code: 'sync_diverged', detail: diverged.join(', '), data }
  const pulled = last_pull_at === null ? 'nothing pulled yet' : `pulled ${spanSince(last_pull_at, moment.now)} ago`
  const warning = warningOf(report)
  const detail = `${pulled}, ${pending === 0 ? 'nothing waits' : `${pending} on their way`}`
  return { ok: true, detail, data, ...(warning === undefined ? {} : { warning }) }
}
