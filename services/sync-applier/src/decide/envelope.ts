import { checkVerified, type SignerRecord } from '@lenserfight/envelope'
import { checkBody, type ReasonCode } from '@lenserfight/schemas'
import { type Item, isApplied } from '../decode.ts'

/** What the decision rests on. */
export interface Facts {
  readonly gatewayId: string
  /** The device on record under a kid. */
  readonly signerOf: (kid: string) => SignerRecord | undefined
}

/** Judges a verified envelope anew before any of its entries is looked at (law 5, SB-2): null, or the applier's own refusal. Pure. */
export const decideEnvelope = (item: Item, facts: Facts): ReasonCode | null =>
  checkVerified(item, { ...facts, isSupported: isApplied, checkBody })
