import { limits } from '@lenserfight/schemas'
import { wordsOfFingerprint } from '../fingerprint.ts'
import { plain } from '../output.ts'
import { type Device, lastSeen } from '../owner/devices.ts'
import { relativeTo, timeOf } from '../times.ts'

const warnSeconds = limits.keyWarnDays * 24 * 3600

/** Where a device stands, with what it waits for. */
export const levelOf = ({ trust_level, trust_reason, challenge_verified, legacy }: Device): string => {
  if (trust_level === 'pending' && legacy) return 'pending, without a key'
  if (trust_level === 'pending') return challenge_verified ? 'pending, ready to approve' : 'pending, awaits its daemon'
  if (trust_level === 'unhealthy') return `unhealthy: ${plain(trust_reason ?? 'no reason given')}`
  return legacy ? `${trust_level}, without a key` : trust_level
}

/** The words of a device's key, the same as that machine shows; empty where it has no key. */
export const wordsOf = ({ fingerprint }: Device): string =>
  fingerprint === null ? '' : wordsOfFingerprint(fingerprint)

/** When a key ends, where that is soon or past. */
const keyEnd = ({ key_expires_at: end, trust_level }: Device, now: number): string => {
  if (end == null || trust_level === 'revoked' || end - now / 1000 > warnSeconds) return ''
  return end < now / 1000 ? `key ended ${relativeTo(end, now)}` : `key ends ${relativeTo(end, now)}`
}

/** What a suspended device's key did meanwhile, which its owner is to know before ending the suspension. */
const keyChange = ({ key_changed_while_unhealthy: isChanged }: Device): string =>
  isChanged ? 'key changed since then' : ''

export const tableHeader = ['ID', 'NAME', 'TYPE', 'LEVEL', 'HEARTBEAT', 'KEY', 'NOTE'] as const

/** A device as a line of a table. */
export const rowOf = (device: Device, now = Date.now()): string[] => [
  device.device_id,
  plain(device.name),
  plain(device.device_type),
  levelOf(device),
  lastSeen(device, now),
  device.fingerprint?.slice(0, 19) ?? 'none',
  [keyChange(device), keyEnd(device, now)].filter(Boolean).join('; '),
]

/** What its owner looks at before saying yes to something. */
export const describe = (device: Device, now = Date.now()): string[] => [
  `Name        ${plain(device.name)}`,
  `Type        ${plain(device.device_type)}`,
  `OS          ${plain(device.os)}`,
  `Registered  ${timeOf(device.created_at)}, ${relativeTo(device.created_at, now)}`,
  `Level       ${levelOf(device)}`,
  ...(device.unhealthy_since == null
    ? []
    : [`Since       ${timeOf(device.unhealthy_since)}, ${relativeTo(device.unhealthy_since, now)}`]),
  ...(device.fingerprint === null
    ? ['Key         none: it can sign nothing']
    : [`Key         ${device.fingerprint}`, `Words       ${wordsOf(device)}`]),
  ...(device.key_changed_while_unhealthy && device.key_changed_at != null
    ? [`Key changed ${timeOf(device.key_changed_at)}, ${relativeTo(device.key_changed_at, now)}: after it was stopped`]
    : []),
]
