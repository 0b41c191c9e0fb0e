import { isReasonCode } from '@lenserfight/schemas'
import type { CheckData, Verdict } from './types.ts'

/** Obstacles that other checks name, of the device and not of its daemon. */
const ofOthers = ['clock_skew', 'device_pending', 'device_unhealthy', 'device_revoked', 'device_blocked', 'key_expired']

const reconnects =
  'It connects again by itself, after an approval within seconds: ask again. Else check the network and the address in the gateway’s descriptor.'

/** The daemon by its own status: that it answers, and that it has the gateway. Pure. */
export const judgeDaemon = (status: CheckData): Verdict => {
  const { daemon_version, connection, code, pid, since } = status
  const data = { daemon_version, connection, pid, since, code }
  const detail = `version ${daemon_version}, process ${pid}, ${connection}`
  if (connection === 'connected' || (isReasonCode(code) && ofOthers.includes(code))) return { ok: true, detail, data }
  const known = isReasonCode(code) ? code : 'gateway_unreachable'
  const failed = { ok: false, code: known, detail: `it runs, and is ${connection}`, data } as const
  // An approval, too, has it connect anew, which takes it some seconds.
  return known === 'gateway_unreachable' ? { ...failed, fix: reconnects } : failed
}
