import type { SyncReport } from '@lenserfight/daemon/checks'
import { isReasonCode, reasonOf } from '@lenserfight/schemas'
import { setAsideLines } from '../objects/describe.ts'
import { type Output, plain } from '../output.ts'
import { relativeTo } from '../times.ts'

const edits = (count: number): string => `${count} ${count === 1 ? 'edit' : 'edits'}`

/** A code with what it means; what keeps nothing is none. */
const meaning = (code: string, { bad }: Output): string =>
  isReasonCode(code) ? `${bad(code)}: ${reasonOf(code).message}` : bad(plain(code))

const waitingOf = ({ pending, oldest_at, in_flight }: SyncReport, now: number): string => {
  if (pending === 0) return 'nothing'
  const since = oldest_at === null ? '' : `, the oldest made ${relativeTo(oldest_at / 1000, now)}`
  const underWay = in_flight === 0 ? 'none of them on its way' : `${in_flight} of them on the way`
  return `${edits(pending)} to be sent${since}; ${underWay}`
}

/** Classes that one machine at a time may send: only where something of them is here it matters who. */
const leaderOf = ({ leader: { held, waiting } }: SyncReport): string | undefined => {
  if (held) return 'this machine: it may send what one machine alone sends'
  return waiting ? 'another machine: edits wait for this one’s turn' : undefined
}

const seen = (at: number | null, now: number): string => (at === null ? 'not yet' : relativeTo(at / 1000, now))

const setAside = ({ set_aside }: SyncReport, output: Output): string[] => [
  `Set aside  ${set_aside.length === 0 ? 'nothing' : output.bad(String(set_aside.length))}`,
  ...set_aside.flatMap((each) => [
    `  ${plain(each.class)} ${plain(each.object)}`,
    ...setAsideLines(each, each, output).map((line) => `    ${line}`),
  ]),
]

/** How this machine's sync fares, with what to do where something keeps it. */
export const machineLines = (report: SyncReport, output: Output, now = Date.now()): string[] => {
  const { gateway_status, code, last_code, conflicts, diverged, last_pull_at, last_push_at } = report
  const leader = leaderOf(report)
  const obstacle = code ?? (report.pending > 0 ? last_code : null)
  return [
    `Gateway    ${plain(gateway_status)}`,
    ...(obstacle === null ? [] : [`Obstacle   ${meaning(obstacle, output)}`]),
    `Waiting    ${waitingOf(report, now)}`,
    ...setAside(report, output),
    `Conflicts  ${conflicts === 0 ? 'none' : `${output.bad(String(conflicts))}: \`lf gateway sync status --conflicts\``}`,
    ...(report.beside === 0
      ? []
      : [
          `Not read   ${report.beside} ${report.beside === 1 ? 'path was' : 'paths were'} written on two machines at once: \`lf gateway objects list\` marks them`,
        ]),
    ...(diverged.length === 0 ? [] : [`Diverged   ${plain(diverged.join(', '))}: ${meaning('sync_diverged', output)}`]),
    `Pulled     ${seen(last_pull_at, now)}`,
    `Pushed     ${seen(last_push_at, now)}`,
    ...(leader === undefined ? [] : [`Leader     ${leader}`]),
  ]
}
