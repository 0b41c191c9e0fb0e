import { type DaemonClient, enrolledOf, type Outcome } from '@lenserfight/daemon/client'
import { CodedError, isReasonCode, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { openDaemon } from '../daemon.ts'
import { endOf, type KeyReport, warningOfKey } from '../key-lines.ts'
import { plain } from '../output.ts'
import { readProfile } from '../profile.ts'
import { relativeTo, timeOf } from '../times.ts'
import { Told } from './told.ts'

type Report = Readonly<Record<string, unknown>>

/** What the daemon says of itself, or why it says nothing. */
const askDaemon = async (context: Context): Promise<{ status: Report } | { failure: CodedError }> => {
  let daemon: DaemonClient | undefined
  try {
    daemon = await openDaemon(context)
    return { status: await daemon.request('status', {}) }
  } catch (error) {
    if (error instanceof CodedError) return { failure: error }
    throw error
  } finally {
    daemon?.close()
  }
}

/** When the key ends, with what to do where that is soon. */
const describeKeyEnd = (key: KeyReport, now: number): string[] => {
  if (key.expires_at === null) return []
  return [`Key        ${warningOfKey(key, now / 1000) ?? endOf(key.expires_at, now / 1000)}`]
}

/** Whose session it is, and until when. */
const describeSession = (session: { lenser: string; expires_at: number } | undefined, now: number): string => {
  if (session === undefined) return 'nobody is signed in: `lf login`'
  const { lenser, expires_at: end } = session
  return end * 1000 > now ? `Lenser ${lenser}, until ${timeOf(end)}` : `ended ${relativeTo(end, now)}: \`lf login\``
}

const describeDaemon = (status: Report, now: number): string[] => {
  const { trust_level, connection, code, last_heartbeat_at: beat } = status
  const { open, unwanted, in_flight } = status.outbox as { open: number; unwanted: number; in_flight: number }
  const left = unwanted > 0 ? ` (of ${unwanted} nobody waits for it any more)` : ''
  return [
    `Level      ${trust_level ?? 'not known yet'}`,
    `Gateway    ${connection}`,
    `Heartbeat  ${beat === null ? 'none yet' : relativeTo(Number(beat) / 1000, now)}`,
    ...describeKeyEnd(status.key as KeyReport, now),
    `Outbox     ${open} waiting for their result${left}, ${in_flight} in flight`,
    ...(isReasonCode(code) ? [`Obstacle   ${code}: ${reasonOf(code).message}`] : []),
  ]
}

/** `lf gateway status`: session, identity, daemon. Fails where there is no daemon to ask, with what is known all the same. */
export const status = async (context: Context): Promise<void> => {
  const { output, edge } = context
  const identity = enrolledOf(context.settings().get('identity'))
  const { session } = readProfile(edge.profileFile)
  const asked = await askDaemon(context)
  const now = Date.now()
  const daemon = 'status' in asked ? asked.status : null
  const failure = 'failure' in asked ? asked.failure : undefined
  const report = {
    ok: failure === undefined,
    ...(failure === undefined ? {} : { code: failure.code, message: failure.message }),
    session: session === undefined ? null : { lenser_id: session.lenser, expires_at: session.expires_at },
    device:
      identity === undefined
        ? null
        : { device_id: identity.device_id, name: identity.name, lenser_id: identity.lenser },
    daemon,
  }
  output.result(report, [
    `Session    ${describeSession(session, now)}`,
    `Device     ${identity === undefined ? 'not enrolled: `lf gateway identity init`' : `${plain(identity.name)} (${identity.device_id})`}`,
    ...(identity === undefined || session === undefined || identity.lenser === session.lenser
      ? []
      : [`Owner      another account than the one signed in: Lenser ${identity.lenser}`]),
    ...(daemon === null ? [] : describeDaemon(daemon, now)),
  ])
  if (failure !== undefined) throw new Told(failure)
}

/** `lf gateway operation`: what became of an operation of this machine. */
export const operation = async (context: Context, { id, wait }: { id: string; wait: number }): Promise<void> => {
  const daemon = await openDaemon(context)
  try {
    const report = await daemon.request('operation.wait', { op_id: id, timeout_ms: wait * 1000 })
    const outcome = report.outcome as Outcome | null
    const how = outcome === null ? 'queued' : outcome.ok ? 'done' : `refused: ${outcome.code}`
    const last = outcome === null && isReasonCode(report.last_code) ? report.last_code : outcome?.code
    context.output.result({ ok: true, ...report }, [
      `${report.kind}  ${how}, sent ${report.attempts === 1 ? 'once' : `${report.attempts} times`}`,
      ...(report.unwanted === true && outcome?.ok !== false
        ? ['Nobody waits for its result any more: a run that comes of it is taken back.']
        : []),
      ...(isReasonCode(last) ? [`${last}: ${reasonOf(last).message}`] : []),
      ...(outcome?.incident_id === undefined ? [] : [`incident  ${outcome.incident_id}`]),
      ...(outcome?.result?.level === undefined ? [] : [`level  ${outcome.result.level}`]),
    ])
  } finally {
    daemon.close()
  }
}
