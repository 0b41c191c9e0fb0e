import { type Output, plain, tableOf } from '../output.ts'
import { type Approval, type Approvals, isPending } from '../owner/approvals.ts'
import { relativeTo, timeOf } from '../times.ts'

const approvalsHeader = ['RUN', 'LABEL', 'COMMAND', 'DEVICE', 'RUNNER', 'REQUESTED', 'STATE'] as const

const beginningOf = (hash: string): string => `${hash.slice(0, 8)}…`

/** A command as a person knows it again. @param hash SHA-256, base64url */
export const shortHashOf = (hash: string): string => `command ${beginningOf(hash)}`

/** What a run is called; without a label, by the beginning of its command's hash. */
export const titleOf = ({ label, command_hash }: Approval): string => plain(label ?? shortHashOf(command_hash))

const decisionWords = { approve: 'approved', deny: 'denied', withdraw: 'taken back' } as const

/** What became of it, with the reason that was given, or until when somebody can answer. @param now milliseconds since 1970 */
export const stateOf = (approval: Approval, now = Date.now()): string => {
  const { decision, decided_at, expires_at, reason } = approval
  if (isPending(approval, now)) return `awaits you, expires ${relativeTo(expires_at, now)}`
  if (decision === null) return `expired ${relativeTo(expires_at, now)}`
  const when = decided_at === null ? '' : ` ${relativeTo(decided_at, now)}`
  return `${decisionWords[decision]}${when}${reason === null ? '' : `: ${plain(reason)}`}`
}

/** A run as a line of a table. */
export const rowOf = (approval: Approval, now = Date.now()): string[] => [
  approval.run_id,
  titleOf(approval),
  plain(beginningOf(approval.command_hash)),
  plain(approval.device_name),
  plain(approval.runner_name ?? ''),
  relativeTo(approval.requested_at, now),
  stateOf(approval, now),
]

/** What a person looks at before answering. What the device says of the run is marked as its word. */
export const describe = (approval: Approval, now = Date.now()): string[] => {
  const { run_id, device_name, device_id, runner_id, runner_name, command_hash } = approval
  return [
    `Run        ${run_id}`,
    `Label      ${titleOf(approval)} (the device’s word)`,
    `Command    ${plain(command_hash)}`,
    `Device     ${plain(device_name)} (${device_id})`,
    `Runner     ${runner_id === null ? 'none' : `${plain(runner_name ?? '')} (${runner_id})`}`,
    ...(approval.version_id === null ? [] : [`Version    ${approval.version_id}`]),
    ...(approval.submission_id === null ? [] : [`Submission ${approval.submission_id}`]),
    `Requested  ${timeOf(approval.requested_at)}, ${relativeTo(approval.requested_at, now)}`,
    `State      ${stateOf(approval, now)}`,
  ]
}

/** The list for people, and how to answer. */
export const listLines = ({ approvals, more }: Approvals, { faint }: Output, now = Date.now()): string[] => {
  const waiting = approvals.find((each) => isPending(each, now))
  const table = approvals.length === 0 ? [] : tableOf([approvalsHeader, ...approvals.map((each) => rowOf(each, now))])
  return [
    ...(waiting === undefined ? ['No run awaits approval.'] : []),
    ...table,
    ...(more ? ['… and more.'] : []),
    ...(waiting === undefined ? [] : [faint(`\`lf gateway approvals approve ${waiting.run_id}\`, or deny.`)]),
  ]
}
