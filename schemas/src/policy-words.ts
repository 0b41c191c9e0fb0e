import type { PolicyReason } from './ladders.ts'

/** What would raise a level, or end an obstacle: a sentence for people, and the one command, where there is one. */
export interface Remedy {
  readonly sentence: string
  readonly command: string | null
}

/** Why a verdict is what it is, for people. */
export const policySentences: Record<PolicyReason, string> = {
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
  withdrawn: 'whoever asked for it took it back',
}

const anew = (sentence: string): Remedy => ({ sentence, command: 'lf run -- COMMAND' })

/** What ends the obstacle that a verdict names. */
export const policyRemedies: Partial<Record<PolicyReason, Remedy>> = {
  kill_switch: { sentence: 'It is the platform’s to lift.', command: null },
  runner_paused: { sentence: 'As the owner:', command: 'lf gateway policy set --lenser-paused off' },
  budget_used_up: {
    sentence: 'It begins anew at 00:00 UTC; as the owner, with a number or none:',
    command: 'lf gateway policy set --daily-runs N',
  },
  parallel_limit: {
    sentence:
      'Wait until one ends, or answer those that await (`lf gateway approvals`); as the owner, with a number or none:',
    command: 'lf gateway policy set --max-parallel N',
  },
  dark_launch: { sentence: 'As the owner:', command: 'lf gateway policy set --dark-launch 100' },
  approval_default_require_human: { sentence: 'The owner answers with:', command: 'lf gateway approvals' },
  approval_default_deny: { sentence: 'As the owner:', command: 'lf gateway policy set --approval allow' },
  approval_denied: anew('If its owner thinks better of it, start it anew.'),
  approval_expired: anew('Start it anew, and have it approved in time.'),
  withdrawn: anew('If it is wanted still, start it anew.'),
}
