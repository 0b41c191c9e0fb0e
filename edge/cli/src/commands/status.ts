import { type DaemonClient, enrolledOf } from '@lenserfight/daemon/client'
import { CodedError, isReasonCode, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { openDaemon } from '../daemon.ts'
import { type KeyReport, warningOfKey } from '../key-lines.ts'
import { plain } from '../output.ts'
import { readProfile } from '../profile.ts'
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

const describeDaemon = (status: Report): string[] => {
  const { trust_level, connection, code, last_heartbeat_at: beat } = status
  const warning = warningOfKey(status.key as KeyReport)
  const { open, in_flight } = status.outbox as { open: number; in_flight: number }
  return [
    `Level      ${trust_level ?? 'not known yet'}`,
    `Gateway    ${connection}`,
    `Heartbeat  ${beat === null ? 'none yet' : new Date(Number(beat)).toISOString()}`,
    `Outbox     ${open} waiting for their result, ${in_flight} in flight`,
    ...(warning === undefined ? [] : [`Key        ${warning}`]),
    ...(isReasonCode(code) ? [`Obstacle   ${code}: ${reasonOf(code).message}`] : []),
  ]
}

/** `lf gateway status`: session, identity, daemon. Fails where there is no daemon to ask, with what is known all the same. */
export const status = async (context: Context): Promise<void> => {
  const { output, edge } = context
  const identity = enrolledOf(context.settings().get('identity'))
  const { session } = readProfile(edge.profileFile)
  const asked = await askDaemon(context)
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
    `Session    ${session === undefined ? 'nobody is signed in' : `Lenser ${session.lenser}`}`,
    `Device     ${identity === undefined ? 'not enrolled' : `${plain(identity.name)} (${identity.device_id})`}`,
    ...(daemon === null ? [] : describeDaemon(daemon)),
  ])
  if (failure !== undefined) throw new Told(failure)
}

/** `lf gateway operation`: what became of an operation of this machine. */
export const operation = async (context: Context, { id, wait }: { id: string; wait: number }): Promise<void> => {
  const daemon = await openDaemon(context)
  try {
    const report = await daemon.request('operation.wait', { op_id: id, timeout_ms: wait * 1000 })
    const outcome = report.outcome as { ok: boolean; code?: string; detail?: string; result?: Report } | null
    const how = outcome === null ? 'queued' : outcome.ok ? 'done' : `refused: ${outcome.code}`
    context.output.result({ ok: true, ...report }, [
      `${report.kind}  ${how}, sent ${report.attempts} times`,
      ...(outcome?.result?.level === undefined ? [] : [`level  ${outcome.result.level}`]),
    ])
  } finally {
    daemon.close()
  }
}
