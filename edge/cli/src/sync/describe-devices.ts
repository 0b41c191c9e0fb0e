import { isReasonCode, reasonOf } from '@lenserfight/schemas'
import { type Output, plain, tableOf } from '../output.ts'
import type { DeviceSync, SyncStatus } from '../owner/sync-status.ts'
import { relativeTo } from '../times.ts'

const header = ['DEVICE', 'ID', 'LEVEL', 'PULLED', 'BEHIND', 'WAITING', 'SET ASIDE', 'STATE'] as const

const countOf = (count: number | null): string => (count === null ? '-' : String(count))
const seen = (at: number | null, now: number): string => (at === null ? 'never' : relativeTo(at / 1000, now))

const stateOf = (
  { diverged, set_aside, last_code, behind, pending, reported_at }: DeviceSync,
  { good, bad }: Output,
) => {
  if (reported_at === null) return 'never reported'
  if (diverged !== null && diverged.length > 0) return bad(`sync_diverged: ${plain(diverged.join(', '))}`)
  if (set_aside !== null && set_aside > 0) return bad(plain(last_code ?? 'set aside'))
  if (isReasonCode(last_code)) return bad(last_code)
  return (behind ?? 0) + (pending ?? 0) === 0 ? good('in step') : 'on its way'
}

const rowOf = (device: DeviceSync, output: Output, now: number): string[] => [
  plain(device.name),
  device.device_id,
  plain(device.trust_level),
  seen(device.pulled_at, now),
  ...[device.behind, device.pending, device.set_aside].map(countOf),
  stateOf(device, output),
]

const leaderLine = ({ leader, devices }: SyncStatus, now: number): string => {
  if (leader === null) return 'Leader     none, and none is needed'
  const name = devices.find(({ device_id }) => device_id === leader.device_id)?.name
  const who = name === undefined ? leader.device_id : `${plain(name)} (${leader.device_id})`
  return `Leader     ${who}, its lease ends ${relativeTo(leader.expires_at / 1000, now)}: it alone sends what one machine at a time may`
}

/** What the codes of devices mean, each once. */
const meaningsOf = (devices: readonly DeviceSync[]): string[] =>
  [...new Set(devices.map(({ last_code }) => last_code))]
    .filter(isReasonCode)
    .map((code) => `${code}: ${reasonOf(code).message}`)

/** How far each machine of the account has come. What a machine says of itself is its own word. */
export const devicesLines = (status: SyncStatus, output: Output, now = Date.now()): string[] => {
  const { devices, seq, conflicts, unsequenced } = status
  return [
    `Changes    ${seq}${unsequenced > 0 ? `, and ${unsequenced} of the gateway’s own on their way` : ''}`,
    `Conflicts  ${conflicts === 0 ? 'none' : `${conflicts} open: \`lf gateway sync status --conflicts\``}`,
    leaderLine(status, now),
    ...(devices.length === 0 ? ['No devices.'] : tableOf([header, ...devices.map((each) => rowOf(each, output, now))])),
    ...(status.more === true ? ['… and more.'] : []),
    ...meaningsOf(devices),
  ]
}
