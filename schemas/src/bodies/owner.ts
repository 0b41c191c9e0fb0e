import Type, { type Static } from '../../typebox/index.mjs'
import { approvalDefaults, deviceLevels } from '../ladders.ts'
import { limits } from '../limits.ts'
import { Bytes32, Bytes64, body, Nullable, operation, ShortText, UnixSeconds, Uuid } from './common.ts'

/** A name that people see in lists: whatever they can read, and nothing that a terminal obeys. */
const Name = Type.String({ minLength: 1, maxLength: limits.deviceNameChars, pattern: '^[^\\p{C}]+$' })

/**
 * Registers the session key that signs this envelope for the account that the token names. `machine`: what the list of sessions
 * calls where it was made; nothing rests on it.
 */
export const LoginBody = operation('login', {
  public_key: Bytes32,
  machine: Type.Optional(Name),
  token: Type.String({
    minLength: 16,
    maxLength: limits.tokenBytes,
    pattern: '^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
  }),
})

/** RFC §5: a new device with its public key; it starts `pending` (DR-2). */
export const RegisterBody = operation('register', {
  name: Name,
  device_type: Type.Union([
    Type.Literal('desktop'),
    Type.Literal('laptop'),
    Type.Literal('server'),
    Type.Literal('ci'),
  ]),
  os: ShortText(64),
  public_key: Bytes32,
  capabilities: Type.Array(ShortText(32), { maxItems: 32 }),
})
export const ApproveBody = operation('approve', { device_id: Uuid })
/** For ever. `compromised_since`: verdicts that rest on attestations stored since are judged anew (trust.md, rule 8). */
export const RevokeBody = operation('revoke', {
  device_id: Uuid,
  reason: Type.Optional(ShortText(200)),
  compromised_since: Type.Optional(UnixSeconds),
})
/** Until the device proves itself again, or its owner reinstates it. */
export const SuspendBody = operation('suspend', { device_id: Uuid, reason: Type.Optional(ShortText(200)) })
/** `key_number`: of the key that its owner was shown; where another took its place since, nothing is reinstated. */
export const ReinstateBody = operation('reinstate', {
  device_id: Uuid,
  key_number: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_147_483_647 })),
})
/** Brings the end of the device's key forward, so that its daemon rotates it. */
export const RotationRequireBody = operation('rotation_require', {
  device_id: Uuid,
  within_seconds: Type.Integer({ minimum: 0, maximum: limits.rotationRequireSeconds }),
})
/** The owner vouches for another key of the device: the one before is dead at once (protocol.md, Device states). */
export const ReproveBody = operation('reprove', { device_id: Uuid, new_public_key: Bytes32, proof: Bytes64 })
/** The account's sessions and API keys. */
export const SessionsBody = body('sessions', {})
/** Ends a session or an API key of the account, this one too. */
export const SessionRevokeBody = operation('session_revoke', { session: Uuid })
/**
 * Vouches for a key pair that was derived from an API key: the gateway gets its public half alone, so neither the
 * broker nor the database ever holds what could sign in.
 */
export const ApiKeyCreateBody = operation('api_key_create', {
  name: Name,
  public_key: Bytes32,
  may_approve: Type.Boolean(),
  expires_in_days: Type.Integer({ minimum: 1, maximum: limits.apiKeyMaxDays }),
})
export const ListBody = body('list', {
  trust: Type.Optional(Type.Enum([...deviceLevels])),
})
/** Binds a runner of the account to one of its devices; made by `name` where it does not exist (RH-1). */
export const RunnerBindBody = operation('runner_bind', { name: ShortText(64), device_id: Uuid })
/** The account's runners with the devices that they are bound to (RH-1). */
export const RunnersBody = body('runners', {})
/** Ends a runner's binding; by its id. Its runs in flight keep what they had. */
export const RunnerUnbindBody = operation('runner_unbind', { runner_id: Uuid })

/** The account's pre-run policy, and how much of it is used up. */
export const PolicyShowBody = body('policy_show', {})
/** What the policy would say of a run just now; nothing is recorded and nothing permitted. */
export const PolicyTestBody = body('policy_test', { version_id: Type.Optional(Uuid) })
/** A tool's name; `mcp/*` is all that begin with `mcp/`, `*` all. One in another place would deny nothing. Its case counts. */
export const deniedToolPattern = '^(?:\\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\\*?)$'
const DeniedTools = Type.Array(Type.String({ pattern: deniedToolPattern }), { maxItems: limits.deniedTools })
/** Changes members of the account's pre-run policy; those that are absent stay. `null`: no bound. */
export const PolicySetBody = operation('policy_set', {
  approval_default: Type.Optional(Type.Enum([...approvalDefaults])),
  runner_paused: Type.Optional(Type.Boolean()),
  daily_runs: Type.Optional(Nullable(Type.Integer({ minimum: 0, maximum: 1_000_000 }))),
  max_parallel_runs: Type.Optional(Nullable(Type.Integer({ minimum: 0, maximum: 10_000 }))),
  /** Runs of so many workflows in a hundred are let through, by a stable hash of the workflow's id. */
  dark_launch_percent: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })),
  /** How long a run awaits a person. */
  approval_seconds: Type.Optional(Type.Integer({ minimum: 10, maximum: limits.approvalMaxSeconds })),
  /** Tools that no run may use: the whole list, in place of what there was. Two who do that at once undo each other's. */
  denied_tools: Type.Optional(DeniedTools),
  /** Without the list: what is to be denied besides, and which denials end. The bounds hold for what comes of it. */
  denied_tools_add: Type.Optional(DeniedTools),
  denied_tools_remove: Type.Optional(DeniedTools),
})
/** Runs that await a person's approval, and those decided of late; or one of them, however many there are. */
export const ApprovalsBody = body('approvals', { run_id: Type.Optional(Uuid) })
/** A person's answer to a run that awaits one. */
export const ApprovalDecideBody = operation('approval_decide', {
  run_id: Uuid,
  decision: Type.Enum(['approve', 'deny']),
  reason: Type.Optional(ShortText(200)),
})
/** How a run stands that is asked for: it awaits a person, or holds a place among the runs at once, be it that it awaits one. */
export const runStates = ['awaiting', 'open'] as const
/**
 * The account's runs, newest first; of one device, one runner or one state where that is named. `before`: those that are older than
 * that run.
 */
export const RunsBody = body('runs', {
  device_id: Type.Optional(Uuid),
  runner_id: Type.Optional(Uuid),
  state: Type.Optional(Type.Enum([...runStates])),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.runsPerAnswer })),
  before: Type.Optional(Uuid),
})
/** Why a run, a submission or a device of the account has the level that it has; by its id. */
export const ExplainBody = body('explain', { id: Uuid })
/** What the gateway knows of the signer; a device or a session may ask. */
export const StatusBody = body('status', { keys_number: Type.Optional(Type.Integer({ minimum: 0 })) })
/** AU-4: verifies the account's own audit chain. */
export const AuditVerifyBody = body('audit_verify', { chain_kind: Type.Literal('gateway') })

export type LoginBody = Static<typeof LoginBody>
export type RegisterBody = Static<typeof RegisterBody>
export type ApproveBody = Static<typeof ApproveBody>
export type RevokeBody = Static<typeof RevokeBody>
export type ListBody = Static<typeof ListBody>
export type RunnerBindBody = Static<typeof RunnerBindBody>
export type RunnersBody = Static<typeof RunnersBody>
export type RunnerUnbindBody = Static<typeof RunnerUnbindBody>
export type PolicyShowBody = Static<typeof PolicyShowBody>
export type PolicyTestBody = Static<typeof PolicyTestBody>
export type PolicySetBody = Static<typeof PolicySetBody>
export type ApprovalsBody = Static<typeof ApprovalsBody>
export type ApprovalDecideBody = Static<typeof ApprovalDecideBody>
export type RunsBody = Static<typeof RunsBody>
export type ExplainBody = Static<typeof ExplainBody>
export type StatusBody = Static<typeof StatusBody>
export type AuditVerifyBody = Static<typeof AuditVerifyBody>
export type SuspendBody = Static<typeof SuspendBody>
export type ReinstateBody = Static<typeof ReinstateBody>
export type RotationRequireBody = Static<typeof RotationRequireBody>
export type ReproveBody = Static<typeof ReproveBody>
export type SessionsBody = Static<typeof SessionsBody>
export type SessionRevokeBody = Static<typeof SessionRevokeBody>
export type ApiKeyCreateBody = Static<typeof ApiKeyCreateBody>
