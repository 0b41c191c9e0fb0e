import type { SyncEntry } from '@lenserfight/schemas'
import { actorOf, partsOf } from './clock.ts'
import type { Delta, Json } from './types.ts'

/** The delta of an entry on the wire: who edited is the device that signed it, never what an entry says (law 4). */
export const deltaOf = (entry: SyncEntry, deviceId: string): Delta => ({
  class: entry.class,
  object: entry.object,
  actor: actorOf(deviceId, entry.incarnation),
  clock: entry.clock,
  paths: entry.paths as Record<string, Json>,
  prev: entry.prev,
})

export const entryOf = ({ actor, class: className, object, clock, paths, prev }: Delta): SyncEntry => ({
  class: className,
  object,
  incarnation: partsOf(actor).incarnation,
  clock: { ...clock },
  prev,
  paths: { ...paths },
})
