import { decodeVerified, type VerifiedMessage } from '@lenserfight/bus'
import { kinds, kindsOf } from '@lenserfight/schemas'

/** What the sync-applier applies, in the order in which one batch's are: a pull sees what was pushed beside it. */
export const appliedKinds = ['sync_push', 'sync_pull'] as const
export type AppliedKind = (typeof appliedKinds)[number]
export type Item = VerifiedMessage<AppliedKind>

/** Whether a kind comes in at the ingress door and is this service's to apply. */
export const isApplied = (name: string): name is AppliedKind =>
  kindsOf('in').some((kind) => kind === name && kinds[kind].applier === 'sync-applier')

/** Reads one message of the verified stream. */
export const decode = decodeVerified(appliedKinds)
