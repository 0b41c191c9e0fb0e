import { connectDaemon, type DaemonClient, type Enrolled, enrolledOf } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'
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

/**
 * A conversation with this machine's daemon.
 * @throws CodedError `not_enrolled` before `daemon_unreachable`: without an identity no daemon runs
 */
export const openDaemon = async (context: Context): Promise<DaemonClient> => {
  enrolledHere(context)
  return connectDaemon(context.edge.socket)
}
