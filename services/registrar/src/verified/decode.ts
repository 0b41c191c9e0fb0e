import { decodeVerified, type VerifiedMessage } from '@lenserfight/bus'

/** What the registrar applies of the verified stream. */
export const appliedKinds = ['challenge', 'rotate'] as const
export type AppliedKind = (typeof appliedKinds)[number]
export type Item = VerifiedMessage<AppliedKind>

/** Reads one message of the verified stream. */
export const decode = decodeVerified(appliedKinds)
