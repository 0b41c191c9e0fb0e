import { isReasonCode } from '@lenserfight/schemas'
import type { CheckData, Verdict } from './types.ts'

/** Obstacles that other checks name, of the device and not of its daemon. */
const ofOthers = ['clock_skew', 'device_pending', 'device_unhealthy', 'device_revoked', 'device_blocked', 'key_expired']

/** The daemon by its own status: that it answers, and that it has the gateway. Pure. */
export const judgeDaemon = (status: CheckData): Verdict => {
  const { daemon_version, connection, code, pid, since } = status
  const data = { daemon_version, connection, pid, since, code }
  const detail = `version ${daemon_version}, process ${pid}, ${connection}`
  if (connection === 'connected' || (isReasonCode(code) && ofOthers.includes(code))) return { ok: true, detail, data }
  const known = isReasonCode(code) ? code : 'gateway_unreachable'
  return { ok: false, code: known, detail: `it runs, and is ${connection}`, data }
}
