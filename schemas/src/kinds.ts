import type { TSchema } from '../typebox/index.mjs'
import {
  AttestationBody,
  CanaryBody,
  ChallengeBody,
  ConnectBody,
  HeartbeatBody,
  LifecycleBody,
  RotateBody,
  RunRenewBody,
  RunStartBody,
  RunWithdrawBody,
  ToolInvocationBody,
} from './bodies/device.ts'
import { AnswerBody, KeysBody, ReceiptBody } from './bodies/gateway.ts'
import {
  ApiKeyCreateBody,
  ApprovalDecideBody,
  ApprovalsBody,
  ApproveBody,
  AuditVerifyBody,
  ExplainBody,
  ListBody,
  LoginBody,
  PolicySetBody,
  PolicyShowBody,
  PolicyTestBody,
  RegisterBody,
  ReinstateBody,
  ReproveBody,
  RevokeBody,
  RotationRequireBody,
  RunnerBindBody,
  RunnersBody,
  RunnerUnbindBody,
  RunsBody,
  SessionRevokeBody,
  SessionsBody,
  StatusBody,
  SuspendBody,
} from './bodies/owner.ts'
import {
  ChangeBody,
  LeaderBody,
  SyncConflictsBody,
  SyncPullBody,
  SyncPushBody,
  SyncResolveBody,
  SyncStatusBody,
  SyncUndoBody,
} from './bodies/sync.ts'
import type { DeviceLevel, SessionScope } from './ladders.ts'

/** Where an envelope comes in (protocol.md); `out` is the gateway's own voice. */
export const doors = ['connect', 'in', 'ask', 'out'] as const
export type Door = (typeof doors)[number]
export type Signer = 'device' | 'session' | 'gateway'

interface Kind {
  readonly door: Door
  readonly signers: readonly Signer[]
  /** The service that applies it. */
  readonly applier: string
  /** Operations carry an op_id and have one stored result; of the others the newest wins. */
  readonly operation: boolean
  /** Device states that may send it; what the others get is `device_<state>`. */
  readonly states?: readonly DeviceLevel[]
  /** Which sessions may ask for it; absent where no session does. */
  readonly scopes?: readonly SessionScope[]
  readonly body: TSchema
}

const working = ['approved', 'trusted', 'offline'] as const
const living = ['approved', 'trusted', 'offline', 'unhealthy'] as const
const device = ['device'] as const
const session = ['session'] as const
const signedIn = ['owner'] as const
const approvers = ['owner', 'api_approver'] as const
const anySession = ['owner', 'api', 'api_approver'] as const

/** An owner's request that changes something: an operation of the registrar's. */
const change = <S extends readonly SessionScope[], B extends TSchema>(scopes: S, body: B) =>
  ({ door: 'ask', signers: session, applier: 'registrar', operation: true, scopes, body }) as const
/** An owner's question. */
const question = <S extends readonly SessionScope[], B extends TSchema>(scopes: S, body: B) =>
  ({ door: 'ask', signers: session, applier: 'registrar', operation: false, scopes, body }) as const

/** Every kind of envelope that this gateway knows: what is not here is `unsupported_kind`. */
export const kinds = {
  connect: {
    door: 'connect',
    signers: ['device', 'session'],
    applier: 'broker-auth',
    operation: false,
    body: ConnectBody,
  },
  challenge: {
    door: 'in',
    signers: device,
    applier: 'registrar',
    operation: true,
    states: ['pending', ...living],
    body: ChallengeBody,
  },
  heartbeat: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: false,
    states: living,
    body: HeartbeatBody,
  },
  run_start: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    states: working,
    body: RunStartBody,
  },
  run_renew: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: false,
    states: working,
    body: RunRenewBody,
  },
  run_withdraw: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    // A device that may run nothing may still give up what it asked for.
    states: living,
    body: RunWithdrawBody,
  },
  tool_invocation: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    states: working,
    body: ToolInvocationBody,
  },
  attestation: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    states: working,
    body: AttestationBody,
  },
  rotate: {
    door: 'in',
    signers: device,
    applier: 'registrar',
    operation: true,
    states: living,
    body: RotateBody,
  },
  lifecycle: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    states: living,
    body: LifecycleBody,
  },
  sync_push: {
    door: 'in',
    signers: device,
    applier: 'sync-applier',
    operation: true,
    states: working,
    body: SyncPushBody,
  },
  sync_pull: {
    door: 'in',
    signers: device,
    applier: 'sync-applier',
    operation: false,
    states: working,
    body: SyncPullBody,
  },
  canary: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: false,
    states: ['pending', ...living],
    body: CanaryBody,
  },
  // Whoever presents a token is no session yet.
  login: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: LoginBody },
  register: change(anySession, RegisterBody),
  approve: change(approvers, ApproveBody),
  revoke: change(approvers, RevokeBody),
  suspend: change(approvers, SuspendBody),
  reinstate: change(approvers, ReinstateBody),
  rotation_require: change(approvers, RotationRequireBody),
  reprove: change(approvers, ReproveBody),
  list: question(anySession, ListBody),
  runners: question(anySession, RunnersBody),
  runner_bind: change(anySession, RunnerBindBody),
  runner_unbind: change(anySession, RunnerUnbindBody),
  policy_show: question(anySession, PolicyShowBody),
  policy_test: question(anySession, PolicyTestBody),
  // What loosens the policy is its owner's alone.
  policy_set: change(signedIn, PolicySetBody),
  approvals: question(anySession, ApprovalsBody),
  approval_decide: change(approvers, ApprovalDecideBody),
  runs: question(anySession, RunsBody),
  explain: question(anySession, ExplainBody),
  sessions: question(signedIn, SessionsBody),
  session_revoke: change(signedIn, SessionRevokeBody),
  api_key_create: change(signedIn, ApiKeyCreateBody),
  status: {
    door: 'ask',
    signers: ['device', 'session'],
    applier: 'registrar',
    operation: false,
    states: ['pending', ...living, 'revoked', 'blocked'],
    scopes: anySession,
    body: StatusBody,
  },
  audit_verify: question(anySession, AuditVerifyBody),
  leader: {
    door: 'ask',
    signers: device,
    applier: 'registrar',
    operation: false,
    states: working,
    body: LeaderBody,
  },
  sync_status: question(anySession, SyncStatusBody),
  sync_conflicts: question(anySession, SyncConflictsBody),
  sync_resolve: change(anySession, SyncResolveBody),
  sync_undo: change(anySession, SyncUndoBody),
  receipt: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: ReceiptBody },
  answer: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: AnswerBody },
  change: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: ChangeBody },
  keys: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: KeysBody },
} as const satisfies Record<string, Kind>

export type KindName = keyof typeof kinds
export const kindNames = Object.keys(kinds) as readonly KindName[]

/** The record of a kind, or undefined for what this gateway does not know. Safe for any string. */
export const kindOf = (name: string): Kind | undefined =>
  Object.hasOwn(kinds, name) ? kinds[name as KindName] : undefined

/**
 * Whether a service's word on an operation counts: what was committed, its applier alone can know; the verifier, before
 * it, refuses and no more. Else one worker could report as done, and allowed, what no other ever saw.
 * @param service as the gateway's key list names the signer's
 */
export const mayConclude = (service: string, kind: KindName, ok: boolean): boolean =>
  service === kinds[kind].applier || (service === 'verifier' && !ok)

/** The kinds of one door, in the order of the table. */
export const kindsOf = (door: Door): readonly KindName[] => kindNames.filter((name) => kinds[name].door === door)

/** Whether a body of this kind carries its device's counter (protocol.md, Clone detection). */
export const hasCounter = (kind: KindName): boolean => kinds[kind].door === 'in'

/** The kinds of a door that a device in this state may send. */
export const kindsInState = (door: Door, state: DeviceLevel): readonly KindName[] =>
  kindsOf(door).filter((name) => {
    const kind: Kind = kinds[name]
    return kind.signers.includes('device') && (kind.states?.includes(state) ?? false)
  })

/** The kinds that a session of this scope may ask for. */
export const kindsInScope = (scope: SessionScope): readonly KindName[] =>
  kindsOf('ask').filter((name) => {
    const kind: Kind = kinds[name]
    return kind.scopes?.includes(scope) ?? false
  })
