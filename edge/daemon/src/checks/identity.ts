import { CodedError, type Descriptor, type DeviceLevel, limits, type ReasonCode } from '@lenserfight/schemas'
import { type Enrolled, enrolledOf, type Identity } from '../settings.ts'
import { daysOf, spanOf } from '../span.ts'
import type { Failed, Verdict } from './types.ts'

/** What the gateway last said of this device, as far as anybody here could ask. Times are Unix seconds. */
export interface DeviceStanding {
  readonly trust_level: DeviceLevel
  readonly trust_reason?: string | null | undefined
  readonly challenge_verified?: boolean | undefined
  readonly key_expires_at?: number | null | undefined
  /** The account's runners are paused. */
  readonly paused?: boolean | undefined
  /** Why the device may not work although its level allows it. */
  readonly code?: ReasonCode | null | undefined
}

export interface IdentityFacts {
  readonly identity: Identity | undefined
  readonly descriptor: Descriptor | undefined
  /** Undefined where nobody could be asked. */
  readonly standing: DeviceStanding | undefined
  /** Milliseconds since 1970. */
  readonly now: number
}

const daySeconds = 24 * 3600

/**
 * A registered identity, for the gateway that this machine pinned.
 * @throws CodedError `not_enrolled`, `descriptor_missing`, `descriptor_changed`
 */
export const requireIdentity = (
  begun: Identity | undefined,
  descriptor: Descriptor | undefined,
): { identity: Enrolled; descriptor: Descriptor } => {
  const identity = enrolledOf(begun)
  if (identity === undefined) throw new CodedError('not_enrolled')
  if (descriptor === undefined) throw new CodedError('descriptor_missing')
  if (descriptor.gateway_id !== identity.gateway_id) throw new CodedError('descriptor_changed')
  return { identity, descriptor }
}

/** Why a level keeps a device from working, as a code with what to do. */
const refusalOf = (device_id: string, standing: DeviceStanding): Failed | undefined => {
  const { trust_level: level, trust_reason: reason, code } = standing
  if (reason === 'identity_forked' || code === 'identity_forked') return { ok: false, code: 'identity_forked' }
  if (level === 'pending') {
    return standing.challenge_verified === false
      ? {
          ok: false,
          code: 'awaiting_device_challenge',
          detail: 'it has not answered its challenge yet',
          fix: 'Run `lf gateway serve` on this machine, then approve it.',
        }
      : {
          ok: false,
          code: 'device_pending',
          detail: 'it awaits its owner',
          fix: `As its owner: \`lf gateway approve-device ${device_id}\`.`,
        }
  }
  if (level === 'unhealthy') {
    return {
      ok: false,
      code: 'device_unhealthy',
      detail: reason ?? 'it runs and attests nothing',
      fix: `As its owner, once you know why: \`lf gateway reinstate-device ${device_id}\`.`,
    }
  }
  if (level === 'revoked' || level === 'blocked') {
    return { ok: false, code: `device_${level}`, detail: reason ?? undefined }
  }
  return standing.paused || code === 'workspace_paused' ? { ok: false, code: 'workspace_paused' } : undefined
}

const endOf = (expiresAt: number, now: number): { isOver: boolean; isSoon: boolean; words: string } => {
  const left = expiresAt - now / 1000
  return {
    isOver: left <= 0,
    isSoon: left <= limits.keyWarnDays * daySeconds,
    words: left <= 0 ? `its key ended ${spanOf(-left)} ago` : `its key ends in ${spanOf(left)}`,
  }
}

/**
 * This machine's identity: that it has one and may work under it. Pure.
 * @throws CodedError as `requireIdentity` does
 */
export const judgeIdentity = ({ identity, descriptor, standing, now }: IdentityFacts): Verdict => {
  const { device_id, name, registered_at, key_since, key_expires_at } = requireIdentity(identity, descriptor).identity
  // What the gateway said last is kept here too.
  const expiresAt = standing?.key_expires_at ?? key_expires_at ?? null
  const since = key_since ?? registered_at ?? null
  const trust_level = standing?.trust_level ?? null
  const data = {
    device_id,
    name,
    trust_level,
    registered_at: registered_at ?? null,
    key_since: since,
    key_expires_at: expiresAt,
  }
  const refusal = standing && refusalOf(device_id, standing)
  if (refusal !== undefined) return { ...refusal, data }
  const end = expiresAt === null ? undefined : endOf(expiresAt, now)
  if (end?.isOver || standing?.code === 'key_expired') {
    return { ok: false, code: 'key_expired', detail: end?.words, data }
  }
  const level = trust_level ?? 'level not known: nobody here could ask the gateway'
  const age = since === null ? '' : `, its key is ${daysOf(now / 1000 - since)} old`
  const detail = `${name}, ${level}${age}${end === undefined ? '' : `, ${end.words}`}`
  if (!end?.isSoon) return { ok: true, detail, data }
  return { ok: true, detail, warning: `${end.words}: the daemon rotates it, or \`lf gateway identity rotate\``, data }
}
