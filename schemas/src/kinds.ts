import type { TSchema } from 'typebox'
import { AttestationBody, ChallengeBody, ConnectBody, HeartbeatBody, RunStartBody } from './bodies/device.ts'
import { AnswerBody, KeysBody, ReceiptBody } from './bodies/gateway.ts'
import {
  ApproveBody,
  AuditVerifyBody,
  ListBody,
  LoginBody,
  RegisterBody,
  RevokeBody,
  RunnerBindBody,
  StatusBody,
} from './bodies/owner.ts'
import type { DeviceLevel } from './ladders.ts'

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
  readonly body: TSchema
}

const working = ['approved', 'trusted', 'offline'] as const
const living = ['approved', 'trusted', 'offline', 'unhealthy'] as const
const device = ['device'] as const
const session = ['session'] as const

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
  attestation: {
    door: 'in',
    signers: device,
    applier: 'trust-evaluator',
    operation: true,
    states: working,
    body: AttestationBody,
  },
  login: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: LoginBody },
  register: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: RegisterBody },
  approve: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: ApproveBody },
  revoke: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: RevokeBody },
  list: { door: 'ask', signers: session, applier: 'registrar', operation: false, body: ListBody },
  runner_bind: { door: 'ask', signers: session, applier: 'registrar', operation: true, body: RunnerBindBody },
  status: {
    door: 'ask',
    signers: ['device', 'session'],
    applier: 'registrar',
    operation: false,
    states: ['pending', ...living, 'revoked', 'blocked'],
    body: StatusBody,
  },
  audit_verify: { door: 'ask', signers: session, applier: 'registrar', operation: false, body: AuditVerifyBody },
  receipt: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: ReceiptBody },
  answer: { door: 'out', signers: ['gateway'], applier: 'edge', operation: false, body: AnswerBody },
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

/** The kinds of a door that a device in this state may send. */
export const kindsInState = (door: Door, state: DeviceLevel): readonly KindName[] =>
  kindsOf(door).filter((name) => {
    const kind: Kind = kinds[name]
    return kind.signers.includes('device') && (kind.states?.includes(state) ?? false)
  })
