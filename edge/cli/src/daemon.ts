import { connectDaemon, type DaemonClient, type Enrolled, enrolledOf, lastRefusal } from '@lenserfight/daemon/client'
import { CodedError, reasonOf } from '@lenserfight/schemas'
import type { Context } from './context.ts'

/**
 * This machine's identity.
 * @throws CodedError `not_enrolled`
 */
export const enrolledHere = (context: Context): Enrolled => {
  const identity = enrolledOf(context.settings().get('identity'))
  if (identity === undefined) throw new CodedError('not_enrolled')
  return identity
}

/** That the daemon is not there, with what its last start was refused with: to start it again would only be refused again. */
export const whyGone = (context: Context, error: unknown): unknown => {
  if (!(error instanceof CodedError) || error.code !== 'daemon_unreachable') return error
  const code = lastRefusal(context.store())
  if (code === undefined) return error
  const why = `its last start was refused, ${code}: ${reasonOf(code).message}`
  return new CodedError('daemon_unreachable', why, { cause: error })
}

/**
 * A conversation with this machine's daemon.
 * @throws CodedError `not_enrolled` before `daemon_unreachable`: without an identity no daemon runs
 */
export const openDaemon = async (context: Context): Promise<DaemonClient> => {
  enrolledHere(context)
  return connectDaemon(context.edge.socket).catch((error: unknown) => {
    throw whyGone(context, error)
  })
}

/** Asks the daemon something, and hangs up whatever comes of it. @throws CodedError as `openDaemon` does, and the daemon's */
export const asDaemon = async <T>(context: Context, act: (daemon: DaemonClient) => Promise<T>): Promise<T> => {
  const daemon = await openDaemon(context)
  try {
    return await act(daemon)
  } finally {
    daemon.close()
  }
}
