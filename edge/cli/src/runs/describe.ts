import { shortHashOf } from '../approvals/describe.ts'
import { type Output, plain, tableOf } from '../output.ts'
import type { Run, Runs } from '../owner/runs.ts'
import { relativeTo } from '../times.ts'

const runsHeader = ['RUN', 'LABEL', 'DEVICE', 'RUNNER', 'ASKED', 'ENDED', 'STATE', 'LEVEL'] as const

const deniedOf = ({ reason }: Run): string => {
  if (reason === 'withdrawn') return 'taken back'
  if (reason === 'approval_denied') return 'denied by a person'
  return reason === 'approval_expired' ? 'expired' : `denied: ${reason ?? 'unknown'}`
}

const attestedOf = ({ exit_code, signal }: Run, { good, bad }: Output): string => {
  if (signal !== null) return bad(plain(signal))
  return exit_code === 0 ? good('exit 0') : bad(`exit ${exit_code ?? 'unknown'}`)
}

/** What the policy says against a run; undefined where nothing. */
const againstOf = (run: Run): string | undefined => {
  if (run.verdict === 'deny') return deniedOf(run)
  return run.verdict === 'pause' ? 'paused' : undefined
}

/** What became of a run, or what it waits for. @param now milliseconds since 1970 */
export const stateOf = (run: Run, output: Output, now = Date.now()): string => {
  const against = againstOf(run)
  if (run.attested_at !== null) return `${attestedOf(run, output)}${against === undefined ? '' : ` (${against})`}`
  if (run.awaits_until !== null) return `awaits you, expires ${relativeTo(run.awaits_until, now)}`
  if (against !== undefined) return output.bad(against)
  // Nobody answered in time, and nobody asked since.
  if (run.verdict === 'require_approval') return output.bad('expired')
  return run.open_until === null ? 'not attested' : 'under way'
}

/** A run as a line of a table. */
export const rowOf = (run: Run, output: Output, now = Date.now()): string[] => [
  run.run_id,
  plain(run.label ?? shortHashOf(run.command_hash)),
  plain(run.device_name),
  plain(run.runner_name ?? ''),
  relativeTo(run.asked_at, now),
  run.ended_at === null ? '' : relativeTo(run.ended_at, now),
  stateOf(run, output, now),
  // A level is of what is attested.
  run.attested_at === null ? '-' : run.level,
]

/** The list for people, and where to look further. @param isFiltered whether others are left out */
export const listLines = ({ runs, next }: Runs, output: Output, isFiltered: boolean, now = Date.now()): string[] => {
  const { faint } = output
  const [newest] = runs
  const none = isFiltered
    ? 'No such runs. `lf gateway runs` lists all.'
    : 'No runs yet. Start one: `lf run -- COMMAND`.'
  const waiting = runs.find(({ awaits_until }) => awaits_until !== null)
  return [
    ...(newest === undefined ? [none] : tableOf([runsHeader, ...runs.map((each) => rowOf(each, output, now))])),
    ...(next === null ? [] : [`… and older ones: --before ${next}`]),
    ...(waiting === undefined ? [] : [faint(`\`lf gateway approvals approve ${waiting.run_id}\`, or deny.`)]),
    ...(newest === undefined ? [] : [faint(`Why one has its level: \`lf gateway explain ${newest.run_id}\`.`)]),
  ]
}
