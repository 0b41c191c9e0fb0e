import { spanOf } from '@lenserfight/daemon/span'
import type { ApprovalDefault } from '@lenserfight/schemas'
import { type Output, plain } from '../output.ts'
import type { Policy } from '../owner/policy.ts'
import { relativeTo, timeOf } from '../times.ts'

const defaults: Record<ApprovalDefault, string> = {
  allow: 'allow: what no other rule stops runs',
  require_human: 'require-human: each run awaits `lf gateway approvals`',
  deny: 'deny: nothing runs',
}

const usedOf = (used: number, bound: number | null): string =>
  bound === null ? `${used}, without a bound` : `${used} of ${bound}${used >= bound ? ': used up' : ''}`

/** An account's policy for people, what stops runs marked. */
export const describePolicy = ({ settings, used, changed_at }: Policy, { bad }: Output, now = Date.now()): string[] => [
  ...(settings.kill_switch ? [`Kill switch   ${bad('on')}: nothing runs`] : []),
  `Lenser        ${settings.runner_paused ? `${bad('paused')}: nothing runs, nothing is attested` : 'not paused'}`,
  `Approval      ${defaults[settings.approval_default]}`,
  `Answer within ${spanOf(settings.approval_seconds)}`,
  `Runs today    ${usedOf(used.runs_today, settings.daily_runs)}`,
  `At once       ${usedOf(used.parallel_runs, settings.max_parallel_runs)}`,
  `Dark launch   ${settings.dark_launch_percent} % of workflows`,
  `Denied tools  ${settings.denied_tools.length === 0 ? 'none' : plain(settings.denied_tools.join(', '))}`,
  ...(changed_at === null ? [] : [`Changed       ${timeOf(changed_at)}, ${relativeTo(changed_at, now)}`]),
]
