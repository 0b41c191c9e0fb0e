import type { KeyPair } from '@lenserfight/envelope'
import type { SyncEntry } from '@lenserfight/schemas'
import {
  actorOf,
  apply,
  type Change,
  edit,
  emptyState,
  entryOf,
  join,
  linkOf,
  type ObjectName,
  type ObjectState,
} from '@lenserfight/sync'

export interface Device {
  readonly id: string
  readonly lenser: string
  readonly keys: KeyPair
}

/** A machine that edits objects as its outbox would, by the merge core alone. */
export const createMachine = (device: Device, incarnation = 1) => {
  const states = new Map<string, ObjectState>()
  const links = new Map<string, string>()
  const actor = actorOf(device.id, incarnation)
  const key = ({ class: className, object }: ObjectName) => `${className}/${object}`
  const state = (name: ObjectName): ObjectState => states.get(key(name)) ?? emptyState
  const absorb = (name: ObjectName, other: ObjectState): void => void states.set(key(name), join(state(name), other))
  const write = (name: ObjectName, change: Change): SyncEntry => {
    const delta = edit(name, state(name), { actor, prev: links.get(key(name)) ?? null }, change)
    if (delta === undefined) throw new TypeError('nothing changes')
    states.set(key(name), apply(state(name), delta))
    links.set(key(name), linkOf(delta))
    return entryOf(delta)
  }
  const set = (name: ObjectName, paths: Record<string, unknown>) =>
    write(name, { paths: paths as Extract<Change, object>['paths'] })
  return { device, actor, state, absorb, write, set }
}
export type Machine = ReturnType<typeof createMachine>
