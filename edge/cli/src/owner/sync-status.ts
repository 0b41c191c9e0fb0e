import { CodedError, Nullable, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import type { Owner } from './connect.ts'

const Time = Nullable(Type.Number())
const DeviceSync = Type.Object({
  device_id: Uuid,
  name: Type.String(),
  trust_level: Type.String(),
  /** How many changes it was not given yet. */
  behind: Nullable(Type.Number()),
  /** All below by the device's own word; null where it never reported. */
  pending: Nullable(Type.Number()),
  set_aside: Nullable(Type.Number()),
  last_code: Nullable(Type.String()),
  diverged: Nullable(Type.Array(Type.String())),
  reported_at: Time,
  pulled_at: Time,
})
const SyncStatus = Type.Object({
  epoch: Type.Number(),
  seq: Type.Number(),
  /** Conflicts that are open. */
  conflicts: Type.Number(),
  /** Changes of the gateway's own that no feed tells of yet. */
  unsequenced: Type.Number(),
  leader: Nullable(Type.Object({ device_id: Uuid, fence: Type.Number(), expires_at: Type.Number() })),
  devices: Type.Array(DeviceSync),
  /** There are devices that this answer has no room for. */
  more: Type.Optional(Type.Boolean()),
})
/** How far each of the account's machines has come. Times are Unix milliseconds. */
export type SyncStatus = Static<typeof SyncStatus>
export type DeviceSync = Static<typeof DeviceSync>

/** @throws CodedError `internal_error` where the answer is no such status */
export const syncStatusOf = (answer: unknown): SyncStatus => {
  if (!Check(SyncStatus, answer)) throw new CodedError('internal_error', 'the answer is not a sync status')
  return answer
}

export const readSyncStatus = async (owner: Owner): Promise<SyncStatus> =>
  syncStatusOf(await owner.request('sync_status', {}))
