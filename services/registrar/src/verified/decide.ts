import {
  checkForm,
  checkSignature,
  checkSignerRecord,
  encodeBase64Url,
  encodeKey,
  envelopeDigest,
  readEnvelope,
  verifyKeyProof,
} from '@lenserfight/envelope'
import { checkBody, kindOf, type ReasonCode, type RotateBody } from '@lenserfight/schemas'
import type { Signer } from '../ask/check-request.ts'
import type { Item } from './decode.ts'

/** What the registrar itself finds of an envelope that a verifier let through: null, or the code of its own refusal. */
export type Decision = ReasonCode | null

export interface Facts {
  readonly gatewayId: string
  readonly signerOf: (kid: string) => Signer | undefined
}

const isSupported = (name: string): boolean => kindOf(name)?.door === 'in' && kindOf(name)?.applier === 'registrar'

/**
 * Judges a verified envelope anew (law 5: no single worker's word makes trust): form, signer, signature, and that the
 * digest is that of its bytes. Pure.
 */
export const decide = (item: Item, { gatewayId, signerOf }: Facts): Decision => {
  const bytes = Buffer.from(item.text)
  const form = checkForm(bytes, { kid: item.kid, kind: item.kind, gatewayId, isSupported, checkBody })
  if (!form.ok) return form.code
  const signer = signerOf(item.kid)
  const refusal = checkSignerRecord(form.message, signer, item.lenser)
  if (refusal !== null || signer === undefined) return refusal?.code ?? 'unknown_device'
  if (encodeBase64Url(envelopeDigest(bytes)) !== item.digest) return 'signature_mismatch'
  return checkSignature(form.message, signer.publicKey)?.code ?? null
}

/**
 * The key that a rotation replaces, base64url, where the new key proved itself against that one; null where it did not.
 * Pure.
 * @param key the key in force, under which `decide` found the envelope's signature good; absent where a former one signed it
 */
export const replacedKey = (item: Item, gatewayId: string, key: Uint8Array | undefined): string | null => {
  const read = readEnvelope(item.text)
  if (!read.ok || key === undefined) return null
  const { op_id, device_id, new_public_key, proof } = read.envelope.body as unknown as RotateBody
  const old_public_key = encodeKey(key)
  const change = { kind: 'rotate', aud: gatewayId, device_id, op_id, old_public_key, new_public_key } as const
  return device_id === item.kid && verifyKeyProof(change, proof) ? old_public_key : null
}
