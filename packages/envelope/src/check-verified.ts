import { encodeBase64Url } from './base64url.ts'
import { checkForm, checkSigner, type FormExpectations } from './check-envelope.ts'
import type { EnvelopeCode } from './errors.ts'
import type { Claimed } from './former-keys.ts'
import type { SignerRecord } from './steps/signer.ts'
import { envelopeDigest } from './wire.ts'

/** An envelope that a verifier let through, with the kind of its batch and whose a verifier found it to be. */
export type Verified = Claimed & {
  readonly kind: string
  readonly kid: string
  readonly lenser: string
}

/** What an applier knows by itself: which kinds are its own, whose key is on record. */
export type VerifiedExpectations = Omit<FormExpectations, 'kid' | 'kind'> & {
  readonly signerOf: (kid: string) => SignerRecord | undefined
}

/**
 * Judges a verified envelope anew, because no single worker's word makes trust (law 5): its form, that it is of its batch's kind
 * and this gateway's, that the digest is that of its bytes, whose it is, and its signature. Pure.
 * @returns the applier's own refusal of what a verifier let through, or null
 */
export const checkVerified = (item: Verified, expected: VerifiedExpectations): EnvelopeCode | null => {
  const { gatewayId, isSupported, checkBody, signerOf } = expected
  const bytes = Buffer.from(item.text)
  const form = checkForm(bytes, { kid: item.kid, kind: item.kind, gatewayId, isSupported, checkBody })
  if (!form.ok) return form.code
  // What the claim recorded is another message: then nobody verified this one.
  if (encodeBase64Url(envelopeDigest(bytes)) !== item.digest) return 'signature_mismatch'
  return checkSigner(form.message, signerOf(item.kid), item.lenser)?.code ?? null
}
