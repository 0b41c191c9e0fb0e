import { decodeVerified, type VerifiedMessage } from '@lenserfight/bus'
import { kinds, kindsOf } from '@lenserfight/schemas'

/** What the trust-evaluator applies, in the order in which one batch's are: what later ones rest on comes first. */
export const appliedKinds = [
  'heartbeat',
  'run_start',
  'run_renew',
  'run_withdraw',
  'tool_invocation',
  'attestation',
  'lifecycle',
  'canary',
] as const
export type AppliedKind = (typeof appliedKinds)[number]

export type Item = VerifiedMessage<AppliedKind>

/** Whether a kind comes in at the ingress door and is this service's to apply. */
export const isApplied = (name: string): name is AppliedKind =>
  kindsOf('in').some((kind) => kind === name && kinds[kind].applier === 'trust-evaluator')

/** Reads one message of the verified stream. */
export const decode = decodeVerified(appliedKinds)
