import type { PolicyReason, PolicyVerdict, ReasonCode } from '@lenserfight/schemas'
import type { PolicyAnswer } from '../owner/policy.ts'

/** Why a verdict is what it is, for people. */
export const reasonSentences: Record<PolicyReason, string> = {
  kill_switch: 'the account’s kill switch is on',
  runner_paused: 'the lenser’s runners are paused',
  budget_used_up: 'the runs of today are used up',
  parallel_limit: 'as many runs as may be are under way',
  dark_launch: 'the workflow is not among those that are let through',
  approval_default_allow: 'no rule stands against it',
  approval_default_require_human: 'each run awaits a person',
  approval_default_deny: 'the account lets nothing run',
  approved: 'a person approved it',
  approval_denied: 'a person denied it',
  approval_expired: 'nobody answered in time',
}

/** What ends the obstacle; where there is no command for it, what to do. */
export const reasonFixes: Partial<Record<PolicyReason, string>> = {
  kill_switch: 'It is the platform’s to lift.',
  runner_paused: 'As the owner: `lf gateway policy set --lenser-paused off`.',
  budget_used_up: 'It begins anew at 00:00 UTC; as the owner: `lf gateway policy set --daily-runs N`, or none.',
  parallel_limit: 'Wait until one ends; as the owner: `lf gateway policy set --max-parallel N`, or none.',
  dark_launch: 'As the owner: `lf gateway policy set --dark-launch 100`.',
  approval_default_require_human: 'The owner answers with `lf gateway approvals`.',
  approval_default_deny: 'As the owner: `lf gateway policy set --approval allow`.',
}

/** The code that a run is refused with for a verdict; undefined where it goes on. */
export const codeOfVerdict: Record<PolicyVerdict, ReasonCode | undefined> = {
  allow: undefined,
  deny: 'policy_denied',
  pause: 'workspace_paused',
  require_approval: 'approval_required',
}

/** A verdict in one line. */
export const sayVerdict = ({ verdict, reason }: PolicyAnswer): string =>
  `${verdict.replace('_', ' ')}: ${reasonSentences[reason]} (${reason})`
