import type { Descriptor } from '@lenserfight/schemas'
import type { GatewayTrust } from './gateway/trust.ts'
import { changesOf } from './keys/change.ts'
import { fingerprintOf } from './keys/fingerprint.ts'
import type { OutboxStatus } from './outbox/types.ts'
import type { Presence } from './presence.ts'
import type { Enrolled } from './settings.ts'
import { daemonVersion } from './version.ts'

/** A device's key, for programs. Times are Unix seconds; null is not known. */
export const describeKey = (identity: Enrolled) => ({
  number: identity.key_number ?? null,
  since: identity.key_since ?? identity.registered_at ?? null,
  expires_at: identity.key_expires_at ?? null,
  fingerprint: fingerprintOf(identity.public_key),
  /** Changes of the key that are under way. */
  changing: changesOf(identity).map(({ kind }) => kind),
})

/** This device's public half. */
export const describeIdentity = (identity: Enrolled) => {
  const { device_id, name, device_type, os, lenser, gateway_id, public_key } = identity
  return { device_id, name, device_type, os, lenser_id: lenser, gateway_id, public_key, key: describeKey(identity) }
}

/** What `status` shows, of parts that each know their own. */
export const describeDaemon = (parts: {
  readonly identity: Enrolled
  readonly descriptor: Descriptor
  readonly presence: Presence
  readonly trust: GatewayTrust
  readonly outbox: OutboxStatus
  readonly heartbeatAt: number | null
  readonly since: number
  readonly binds: readonly string[]
}) => ({
  device_id: parts.identity.device_id,
  name: parts.identity.name,
  lenser_id: parts.identity.lenser,
  gateway_id: parts.descriptor.gateway_id,
  public_key: parts.identity.public_key,
  key: describeKey(parts.identity),
  key_expires_at: parts.identity.key_expires_at ?? null,
  daemon_version: daemonVersion,
  pid: process.pid,
  since: parts.since,
  binds: parts.binds,
  connection: parts.presence.connection(),
  trust_level: parts.presence.level() ?? null,
  code: parts.presence.obstacle() ?? null,
  clock_offset_ms: parts.presence.clockOffsetMs() ?? null,
  last_heartbeat_at: parts.heartbeatAt,
  keys_number: parts.trust.keysNumber(),
  outbox: parts.outbox,
})
