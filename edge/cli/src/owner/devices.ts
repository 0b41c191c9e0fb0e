import { CodedError, type DeviceLevel, deviceLevels, Uuid } from '@lenserfight/schemas'
import Type, { type Static } from 'typebox'
import { Check } from 'typebox/value'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Device = Type.Object({
  device_id: Uuid,
  name: Type.String(),
  device_type: Type.String(),
  os: Type.String(),
  trust_level: Type.Union(deviceLevels.map((level) => Type.Literal(level))),
  fingerprint: Type.String(),
  challenge_verified: Type.Boolean(),
  last_heartbeat_at: Nullable(Type.Number()),
  gateway_status: Nullable(Type.String()),
})
/** One of the owner's devices, as the gateway shows it. */
export type Device = Static<typeof Device>

/** The owner's devices, living ones first. */
export const listDevices = async (owner: Owner, trust?: DeviceLevel): Promise<{ devices: Device[]; more: boolean }> => {
  const { devices, more } = await owner.request('list', trust === undefined ? {} : { trust })
  if (!Check(Type.Array(Device), devices)) throw new CodedError('internal_error', 'the list is not one of devices')
  return { devices, more: more === true }
}

/**
 * The one device that an id, or the name of a living device, means.
 * @throws CodedError `device_not_found`
 */
export const findDevice = async (owner: Owner, idOrName: string): Promise<Device> => {
  const { devices } = await listDevices(owner)
  const found =
    devices.find(({ device_id }) => device_id === idOrName) ??
    devices.find(({ name, trust_level }) => name === idOrName && trust_level !== 'revoked')
  if (found === undefined) throw new CodedError('device_not_found', plain(idOrName))
  return found
}

const agoOf = (seconds: number, now: number): string => {
  const past = Math.max(0, Math.round(now / 1000 - seconds))
  if (past < 120) return `${past} s ago`
  if (past < 7200) return `${Math.round(past / 60)} min ago`
  return past < 172_800 ? `${Math.round(past / 3600)} h ago` : `${Math.round(past / 86_400)} days ago`
}

/** When a device was last heard of, for people. */
export const lastSeen = ({ last_heartbeat_at: at }: Device, now = Date.now()): string =>
  at === null ? 'never' : agoOf(at, now)
