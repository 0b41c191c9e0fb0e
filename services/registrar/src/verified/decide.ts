import { checkVerified, encodeKey, readEnvelope, verifyKeyProof } from '@lenserfight/envelope'
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

/** Judges a verified envelope anew (law 5). Pure. */
export const decide = (item: Item, facts: Facts): Decision => checkVerified(item, { ...facts, isSupported, checkBody })

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
