import { type CodedError, type DeviceLevel, kindOf, type ReasonCode } from '@lenserfight/schemas'
import { isClockOff } from './checks/clock.ts'
import { isKeyExpired, type NoStanding, type Standing } from './gateway/device-session.ts'
import type { LinkEvent } from './gateway/link.ts'

export type ConnectionState = 'connecting' | 'connected' | 'disconnected' | 'refused'

/** What the daemon knows of where it stands: of its connection, and of what the gateway last said of the device. */
export interface Presence {
  readonly connection: () => ConnectionState
  readonly level: () => DeviceLevel | undefined
  /** Why the device cannot work just now, if something is known to stand in its way. */
  readonly obstacle: () => ReasonCode | undefined
  readonly clockOffsetMs: () => number | undefined
  readonly onLink: (event: LinkEvent) => void
  readonly onConnectFailed: (error: CodedError) => void
  readonly onStanding: (standing: Standing | NoStanding) => void
  /** This machine itself stands in its way, as far as is known until it stands elsewhere. */
  readonly onUnable: (code: ReasonCode) => void
}

/** The code with which a state refuses a kind, or undefined where it allows it. */
export const refusalIn = (level: DeviceLevel, kind: string): ReasonCode | undefined => {
  if (kindOf(kind)?.states?.includes(level)) return undefined
  if (level === 'pending' || level === 'unhealthy' || level === 'revoked' || level === 'blocked')
    return `device_${level}`
  return 'unsupported_kind'
}

export const createPresence = (now: () => number = Date.now): Presence => {
  let connection: ConnectionState = 'connecting'
  let standing: Standing | undefined
  let clockOffsetMs: number | undefined
  let problem: ReasonCode | undefined

  const obstacle = (): ReasonCode | undefined => {
    if (clockOffsetMs !== undefined && isClockOff(clockOffsetMs)) return 'clock_skew'
    const refusal = standing && refusalIn(standing.level, 'run_start')
    if (refusal !== undefined) return refusal
    if (standing && isKeyExpired(standing, now())) return 'key_expired'
    return problem ?? (standing?.isPaused ? 'workspace_paused' : undefined)
  }
  return {
    connection: () => connection,
    level: () => standing?.level,
    obstacle,
    clockOffsetMs: () => clockOffsetMs,
    onLink: (event) => {
      if (event === 'forbidden') return
      connection = event
      problem = event === 'connected' ? undefined : event === 'refused' ? 'connection_refused' : 'gateway_unreachable'
    },
    onConnectFailed: ({ code }) => {
      connection = code === 'connection_refused' ? 'refused' : 'disconnected'
      problem = code
    },
    onUnable: (code) => {
      problem = code
    },
    onStanding: (next) => {
      clockOffsetMs = next.clockOffsetMs ?? clockOffsetMs
      if ('refused' in next) {
        problem = next.refused
        return
      }
      standing = next
      problem = undefined
    },
  }
}
