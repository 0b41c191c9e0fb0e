import { checkForm, checkSignature, checkSignerRecord, encodeBase64Url, envelopeDigest } from '@lenserfight/envelope'
import { checkBody, kindOf, type ReasonCode, type VerifiedItem } from '@lenserfight/schemas'
import type { Signer } from '../ask/check-request.ts'

/** What the registrar itself finds of an envelope that a verifier let through: null, or the code of its own refusal. */
export type Decision = ReasonCode | null

export interface Facts {
  readonly gatewayId: string
  readonly signerOf: (kid: string) => Signer | undefined
}

const kind = 'challenge'
const isSupported = (name: string): boolean => kindOf(name)?.door === 'in' && kindOf(name)?.applier === 'registrar'

/**
 * Judges a verified envelope anew (law 5: no single worker's word makes trust): form, signer, signature, and that the
 * digest is that of its bytes. Pure.
 */
export const decide = (item: VerifiedItem, { gatewayId, signerOf }: Facts): Decision => {
  const bytes = Buffer.from(item.text)
  const form = checkForm(bytes, { kid: item.kid, kind, gatewayId, isSupported, checkBody })
  if (!form.ok) return form.code
  const signer = signerOf(item.kid)
  const refusal = checkSignerRecord(form.message, signer, item.lenser)
  if (refusal !== null || signer === undefined) return refusal?.code ?? 'unknown_device'
  if (encodeBase64Url(envelopeDigest(bytes)) !== item.digest) return 'signature_mismatch'
  return checkSignature(form.message, signer.publicKey)?.code ?? null
}
