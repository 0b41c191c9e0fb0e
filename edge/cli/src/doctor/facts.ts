import { existsSync } from 'node:fs'
import { connectDaemon, type DaemonClient, type Enrolled, enrolledOf, type Identity } from '@lenserfight/daemon/client'
import { CodedError, type Descriptor } from '@lenserfight/schemas'
import type { Context } from '../context.ts'

export type Report = Readonly<Record<string, unknown>>

/** What several checks rest on, found out once. */
export interface Facts {
  readonly begun: Identity | undefined
  readonly identity: Enrolled | undefined
  readonly descriptor: Descriptor | undefined
  /** @throws CodedError `not_enrolled`, `daemon_unreachable` */
  readonly askDaemon: (ask: (daemon: DaemonClient) => Promise<Report>) => Promise<Report>
  /**
   * The daemon's status.
   * @throws CodedError `not_enrolled`, `daemon_unreachable`
   */
  readonly daemon: () => Promise<Report>
}

/** Where nothing was installed yet there is nothing to open, and a diagnosis makes nothing. */
const readState = (context: Context): Pick<Facts, 'begun' | 'descriptor'> => {
  if (!existsSync(context.edge.stateFile)) return { begun: undefined, descriptor: undefined }
  const settings = context.settings()
  return { begun: settings.get('identity'), descriptor: settings.get('descriptor') }
}

/** @throws CodedError `insecure_permissions`, `state_unwritable` */
export const gatherFacts = (context: Context): Facts => {
  const { begun, descriptor } = readState(context)
  const identity = enrolledOf(begun)
  const askDaemon: Facts['askDaemon'] = async (ask) => {
    if (identity === undefined) throw new CodedError('not_enrolled')
    const daemon = await connectDaemon(context.edge.socket)
    try {
      return await ask(daemon)
    } finally {
      daemon.close()
    }
  }
  let status: Promise<Report> | undefined
  return {
    begun,
    descriptor,
    identity,
    askDaemon,
    daemon: () => {
      status ??= askDaemon((daemon) => daemon.request('status', {}))
      return status
    },
  }
}
