import { checkVerified, type SignerRecord } from '@lenserfight/envelope'
import { checkBody, type ReasonCode } from '@lenserfight/schemas'
import { type Item, isApplied } from './decode.ts'

/** What the decision rests on. */
export interface Facts {
  readonly gatewayId: string
  /** The device on record under a kid. */
  readonly signerOf: (kid: string) => SignerRecord | undefined
}

/** The evaluator's own word on a verified envelope: null, or why it refuses what a verifier let through. */
export type Decision = ReasonCode | null

/** Judges a verified envelope anew (law 5). Pure. */
export const decide = (item: Item, facts: Facts): Decision =>
  checkVerified(item, { ...facts, isSupported: isApplied, checkBody })
