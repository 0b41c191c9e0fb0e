/** `devices.registered_devices.trust_level` (trust model). */
export const deviceLevels = ['pending', 'approved', 'trusted', 'offline', 'unhealthy', 'revoked', 'blocked'] as const
export type DeviceLevel = (typeof deviceLevels)[number]

/** Who may cause a transition. */
export const transitionActors = ['owner', 'server', 'platform'] as const
export type TransitionActor = (typeof transitionActors)[number]

/**
 * Every transition that there is (protocol.md, Device states); `devices.trust_transitions` is held to it by a test.
 * `earlier` levels: what `offline`, `unhealthy` and `blocked` return to is the level that the row keeps.
 */
export const deviceTransitions: readonly { from: DeviceLevel; to: DeviceLevel; actor: TransitionActor }[] = [
  { from: 'pending', to: 'approved', actor: 'owner' },
  { from: 'approved', to: 'trusted', actor: 'server' },
  { from: 'approved', to: 'offline', actor: 'server' },
  { from: 'trusted', to: 'offline', actor: 'server' },
  { from: 'offline', to: 'approved', actor: 'server' },
  { from: 'offline', to: 'trusted', actor: 'server' },
  { from: 'approved', to: 'unhealthy', actor: 'server' },
  { from: 'trusted', to: 'unhealthy', actor: 'server' },
  { from: 'offline', to: 'unhealthy', actor: 'server' },
  { from: 'approved', to: 'unhealthy', actor: 'owner' },
  { from: 'trusted', to: 'unhealthy', actor: 'owner' },
  { from: 'offline', to: 'unhealthy', actor: 'owner' },
  { from: 'unhealthy', to: 'approved', actor: 'owner' },
  { from: 'unhealthy', to: 'trusted', actor: 'owner' },
  { from: 'unhealthy', to: 'offline', actor: 'owner' },
  { from: 'pending', to: 'revoked', actor: 'owner' },
  { from: 'approved', to: 'revoked', actor: 'owner' },
  { from: 'trusted', to: 'revoked', actor: 'owner' },
  { from: 'offline', to: 'revoked', actor: 'owner' },
  { from: 'unhealthy', to: 'revoked', actor: 'owner' },
  { from: 'pending', to: 'blocked', actor: 'platform' },
  { from: 'approved', to: 'blocked', actor: 'platform' },
  { from: 'trusted', to: 'blocked', actor: 'platform' },
  { from: 'offline', to: 'blocked', actor: 'platform' },
  { from: 'unhealthy', to: 'blocked', actor: 'platform' },
  { from: 'revoked', to: 'blocked', actor: 'platform' },
  { from: 'blocked', to: 'pending', actor: 'platform' },
  { from: 'blocked', to: 'approved', actor: 'platform' },
  { from: 'blocked', to: 'trusted', actor: 'platform' },
  { from: 'blocked', to: 'offline', actor: 'platform' },
  { from: 'blocked', to: 'unhealthy', actor: 'platform' },
  { from: 'blocked', to: 'revoked', actor: 'platform' },
]

/** What a session may ask for: an owner who signed in everything, an API key what `kinds` says. */
export const sessionScopes = ['owner', 'api', 'api_approver'] as const
export type SessionScope = (typeof sessionScopes)[number]

/** `execution.trust_evaluations.trust_level`, lowest first (RFC §6, trust model). */
export const executionLevels = [
  'unverified',
  'account_verified',
  'agent_verified',
  'device_verified',
  'runner_verified',
  'execution_verified',
  'fully_trusted',
] as const
export type ExecutionLevel = (typeof executionLevels)[number]

/** The facts that each level needs besides those of the level before (trust.md). */
export const executionFacts = {
  account_verified: ['requester_is_submitter'],
  agent_verified: ['contender_is_agent', 'contender_owned'],
  device_verified: ['attested', 'device_trusted', 'heartbeat_fresh', 'version_unchanged'],
  runner_verified: ['runner_named', 'binding_active'],
  execution_verified: ['signed', 'gateway_verified'],
  fully_trusted: ['policy_passed', 'workflow_hash', 'lens_hash'],
} as const satisfies Record<Exclude<ExecutionLevel, 'unverified'>, readonly string[]>

export type ExecutionFact = (typeof executionFacts)[keyof typeof executionFacts][number]

/** What each fact says, for people (used where a level and its reason are shown). */
export const factSentences: Record<ExecutionFact, string> = {
  requester_is_submitter: 'the run was asked for by the account that submits it',
  contender_is_agent: 'the contender is an AI agent or an AI runner',
  contender_owned: 'the contender belonged to the account when the run started',
  attested: 'an attestation of this run is on record',
  device_trusted: 'the device was approved or trusted when the attestation was claimed and stored',
  heartbeat_fresh:
    'a heartbeat of the runner, or of the device where no runner is named, was stored in the five minutes before',
  version_unchanged: 'the pinned lens version is the one that ran, and was not changed meanwhile',
  runner_named: 'the run names a runner',
  binding_active: 'the runner was bound to this device before the run, and until it was attested',
  signed: 'the attestation’s envelope verified',
  gateway_verified: 'the verifier’s claim and the evaluator’s own check agree',
  policy_passed:
    'the policy allowed the run from its start to its end, it is what was permitted, and its tool log is whole',
  workflow_hash: 'the workflow’s hash was attested',
  lens_hash: 'the lens version’s hash was attested',
}

/** `agents.workspace_settings.approval_default`: the verdict where no rule before decided. */
export const approvalDefaults = ['allow', 'require_human', 'deny'] as const
export type ApprovalDefault = (typeof approvalDefaults)[number]

/** Verdicts of `agents.fn_evaluate_pre_run_policy`. */
export const policyVerdicts = ['allow', 'deny', 'pause', 'require_approval'] as const
export type PolicyVerdict = (typeof policyVerdicts)[number]

/** Why a verdict is what it is: `agents.policy_evaluations.reason`. */
export const policyReasons = [
  'kill_switch',
  'runner_paused',
  'budget_used_up',
  'parallel_limit',
  'dark_launch',
  'approval_default_allow',
  'approval_default_require_human',
  'approval_default_deny',
  'approved',
  'approval_denied',
  'approval_expired',
  'withdrawn',
] as const
export type PolicyReason = (typeof policyReasons)[number]

/** When a verdict was given: with the permit, by a person, at a renewal, or when the device gave the run up. */
export const policyPhases = ['start', 'approval', 'renewal', 'withdrawal'] as const
export type PolicyPhase = (typeof policyPhases)[number]
