import type { DaemonClient } from '@lenserfight/daemon/client'
import { enrolledOf } from '@lenserfight/daemon/client'
import { nilUuid } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { plain } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { readSyncStatus } from '../owner/sync-status.ts'
import type { ObjectView } from './answers.ts'

/** Whose machines wrote: their names by device id as far as they are known, and which of them is this one. */
export interface Writers {
  readonly names: ReadonlyMap<string, string>
  readonly here?: string | undefined
}

export const noNames: Writers = { names: new Map() }

const deviceOf = (actor: string): string => actor.replace(/~.*$/s, '')

/** The machine that wrote something, by its name where that is known. */
export const writerOf = (actor: string, { names, here }: Writers): string => {
  const device = deviceOf(actor)
  if (device === nilUuid) return 'the gateway'
  const name = names.get(device)
  const called = name === undefined ? plain(device) : `${plain(name)} (${plain(device)})`
  return device === here ? `${called}, this machine` : called
}

/** Only who decides between machines needs their names. */
const isParted = ({ conflicts, beside }: ObjectView): boolean => conflicts.length + beside.length > 0

/** Who wrote what stands beside each other. Where the gateway or a sign-in is not there, ids do. */
export const writersOf = async (context: Context, daemon: DaemonClient, view: ObjectView): Promise<Writers> => {
  const here = enrolledOf(context.settings().get('identity'))?.device_id
  if (!isParted(view)) return { ...noNames, here }
  try {
    const { connection } = await daemon.request('status', {})
    if (connection !== 'connected') return { ...noNames, here }
    const { devices } = await asOwner(context, readSyncStatus)
    return { names: new Map(devices.map(({ device_id, name }) => [device_id, name])), here }
  } catch {
    return { ...noNames, here }
  }
}
