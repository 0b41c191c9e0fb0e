import {
  checkForm,
  checkSigner,
  encodeBase64Url,
  envelopeDigest,
  type Refusal,
  type SignerRecord,
} from '@lenserfight/envelope'
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

/**
 * Judges a verified envelope anew, because no single worker's word makes trust (law 5): its form, that it is of its
 * batch's kind and this gateway's, that the digest is that of its bytes, whose it is, and its signature. Pure.
 */
export const decide = (item: Item, { gatewayId, signerOf }: Facts): Decision => {
  const bytes = Buffer.from(item.text)
  const form = checkForm(bytes, { kid: item.kid, kind: item.kind, gatewayId, isSupported: isApplied, checkBody })
  if (!form.ok) return form.code
  // What the claim recorded is another message: then nobody verified this one.
  if (encodeBase64Url(envelopeDigest(bytes)) !== item.digest) return 'signature_mismatch'
  const refusal: Refusal | null = checkSigner(form.message, signerOf(item.kid), item.lenser)
  return refusal === null ? null : refusal.code
}
