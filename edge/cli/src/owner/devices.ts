import { CodedError, type DeviceLevel, deviceLevels, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import { relativeTo } from '../times.ts'
import type { Owner } from './connect.ts'
import { meantBy, severalMeant } from './find.ts'

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Device = Type.Object({
  device_id: Uuid,
  name: Type.String(),
  device_type: Type.String(),
  os: Type.String(),
  trust_level: Type.Enum([...deviceLevels]),
  trust_reason: Type.Optional(Nullable(Type.String())),
  /** Since when it is unhealthy, suspended or not. */
  unhealthy_since: Type.Optional(Nullable(Type.Number())),
  /** Whoever held its key replaced it since. */
  key_changed_while_unhealthy: Type.Optional(Type.Boolean()),
  key_number: Type.Optional(Nullable(Type.Number())),
  key_changed_at: Type.Optional(Nullable(Type.Number())),
  /** None where the device was imported without a key. */
  fingerprint: Nullable(Type.String()),
  challenge_verified: Type.Boolean(),
  /** Imported without a key: approved in one step, and can sign nothing. */
  legacy: Type.Optional(Type.Boolean()),
  key_expires_at: Type.Optional(Nullable(Type.Number())),
  last_heartbeat_at: Nullable(Type.Number()),
  gateway_status: Nullable(Type.String()),
  created_at: Type.Number(),
})
/** One of the owner's devices, as the gateway shows it. Times are Unix seconds. */
export type Device = Static<typeof Device>

/** The owner's devices, living ones first. */
export const listDevices = async (owner: Owner, trust?: DeviceLevel): Promise<{ devices: Device[]; more: boolean }> => {
  const { devices, more } = await owner.request('list', trust === undefined ? {} : { trust })
  if (!Check(Type.Array(Device), devices)) throw new CodedError('internal_error', 'the list is not one of devices')
  return { devices, more: more === true }
}

const whatIsMeant =
  'an id, its first 8 characters and as many more as tell it from others, or the name of one that is not revoked'

/** A revoked device's name is free for another. */
const livingName = ({ name, trust_level }: Device): string | undefined => (trust_level === 'revoked' ? undefined : name)

/** Where something is only looked at, a revoked device's name means it, if no living device has it. */
interface Among {
  readonly amongRevoked?: boolean
}

/**
 * The one of these devices that an id, a unique beginning of one (8 characters or more), or the name of a living device means, if any does.
 * @throws CodedError `usage` where several are meant
 */
export const deviceAmong = (
  devices: readonly Device[],
  given: string,
  { amongRevoked = false }: Among = {},
): Device | undefined => {
  const by = (nameOf: (each: Device) => string | undefined) =>
    meantBy(devices, given, { idOf: (each) => each.device_id, nameOf })
  const living = by(livingName)
  const meant = living.length === 0 && amongRevoked ? by(({ name }) => name) : living
  if (meant.length <= 1) return meant[0]
  throw severalMeant(
    given,
    meant.map(({ device_id, name }) => `${device_id} ${plain(name)}`),
  )
}

/** The same of all of the owner's. @throws CodedError as `deviceAmong` does */
export const deviceMeant = async (owner: Owner, given: string, among: Among = {}): Promise<Device | undefined> =>
  deviceAmong((await listDevices(owner)).devices, given, among)

/** The one device that is meant. @throws CodedError `device_not_found`, what `deviceMeant` throws */
export const findDevice = async (owner: Owner, given: string, among: Among = {}): Promise<Device> => {
  const found = await deviceMeant(owner, given, among)
  if (found === undefined) throw new CodedError('device_not_found', `${plain(given)}: ${whatIsMeant}`)
  return found
}

/** When a device was last heard of, for people. */
export const lastSeen = ({ last_heartbeat_at: at }: Device, now = Date.now()): string =>
  at === null ? 'never' : relativeTo(at, now)
