import type { KindName } from '@lenserfight/schemas'
import type { Presence } from '../presence.ts'
import type { Methods } from '../socket/server.ts'
import type { Sync } from './sync.ts'

type SyncMethod = Extract<keyof Methods, `objects.${string}` | `sync.${string}`>

export interface SyncMethodsOptions {
  readonly sync: Sync
  readonly presence: Pick<Presence, 'obstacle'>
  /** Refuses what the device's state refuses. */
  readonly checkState: (kind: KindName) => Promise<void>
}

/** What the socket's methods about objects and their sync do. Objects need no gateway. */
export const createSyncMethods = ({ sync, presence, checkState }: SyncMethodsOptions): Pick<Methods, SyncMethod> => ({
  'objects.set': async ({ paths, ...name }) => sync.objects.set(name, paths),
  'objects.delete': async (name) => sync.objects.delete(name),
  'objects.undelete': async (name) => sync.objects.undelete(name),
  'objects.discard': async (name) => sync.objects.discard(name),
  'objects.get': async (name) => sync.objects.get(name),
  'objects.list': async (which) => sync.objects.list(which),
  'sync.status': async () => sync.status(presence.obstacle()),
  'sync.pull': async ({ timeout_ms }, signal) => {
    await checkState('sync_pull')
    return { ...(await sync.pull(timeout_ms, signal)) }
  },
  'sync.push': async ({ dry_run = false, timeout_ms }, signal) => {
    if (dry_run) return { entries: sync.outline() }
    await checkState('sync_push')
    return { ...(await sync.push(timeout_ms, signal)) }
  },
})
