import { syncReportOf } from '@lenserfight/daemon/checks'
import type { DaemonClient } from '@lenserfight/daemon/client'
import { CodedError, isReasonCode } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { asDaemon } from '../daemon.ts'
import { pulledOf, pushedOf, waitingOf } from '../sync/answers.ts'
import { machineLines } from '../sync/describe-machine.ts'
import { pulledLine, pushedLines, waitingLines } from '../sync/describe-transfer.ts'
import { Told } from './told.ts'

/** `lf gateway sync status`: how this machine's sync fares. */
export const showMachine = (context: Context): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const report = syncReportOf(await daemon.request('sync.status', {}))
    context.output.result({ ok: true, ...report }, machineLines(report, context.output))
  })

/** Why something is not done yet, as the daemon knows it. */
const whyNot = async (daemon: DaemonClient): Promise<CodedError> => {
  const { code, last_code } = syncReportOf(await daemon.request('sync.status', {}))
  return new CodedError([code, last_code].find(isReasonCode) ?? 'answer_timeout')
}

/** `lf gateway sync pull`: takes over what changed elsewhere. @throws Told where not all came in time */
export const pull = (context: Context, wait: number): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const pulled = pulledOf(await daemon.request('sync.pull', { timeout_ms: wait * 1000 }))
    const failure = pulled.done ? undefined : await whyNot(daemon)
    const told = failure === undefined ? {} : { code: failure.code, message: failure.message }
    context.output.result({ ok: pulled.done, ...told, ...pulled }, [pulledLine(pulled, context.output)])
    if (failure !== undefined) throw new Told(failure)
  })

/** `lf gateway sync push --dry-run`: which edits would go, and not what they say. */
export const showWaiting = (context: Context): Promise<void> =>
  asDaemon(context, async (daemon) => {
    const entries = waitingOf(await daemon.request('sync.push', { dry_run: true, timeout_ms: 0 }))
    context.output.result({ ok: true, entries }, waitingLines(entries))
  })

/** `lf gateway sync push`: sends what waits. Exit code 1 where some of it was refused. @throws Told where some waits still */
export const push = (context: Context, wait: number): Promise<number | undefined> =>
  asDaemon(context, async (daemon) => {
    const pushed = pushedOf(await daemon.request('sync.push', { timeout_ms: wait * 1000 }))
    const failure = pushed.pending === 0 ? undefined : await whyNot(daemon)
    const told = failure === undefined ? {} : { code: failure.code, message: failure.message }
    const ok = failure === undefined && pushed.refused === 0
    context.output.result({ ok, ...told, ...pushed }, pushedLines(pushed, context.output))
    if (failure !== undefined) throw new Told(failure)
    return ok ? undefined : 1
  })
