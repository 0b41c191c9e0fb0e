import { type Refusal, refuse } from '../errors.ts'
import type { PublicKey, ReceivedEnvelope } from '../types.ts'

/** What is on record of whoever signs under a `kid`: a device, an owner's session, a service. */
export type SignerRecord = {
  readonly kid: string
  /** The account that it belongs to; null for one that has none (a service, a session before its login). */
  readonly lenserId: string | null
  /** Raw 32 bytes. */
  readonly publicKey: PublicKey
}

/**
 * Do we know the signer, and does it belong to the account that the subject names?
 *
 * @param lenserId the subject's account; null at a door whose subject names none
 */
export function checkSignerRecord(
  { envelope }: ReceivedEnvelope,
  signer: SignerRecord | undefined,
  lenserId: string | null,
): Refusal | null {
  if (signer === undefined) return refuse('unknown_device', 'no key is on record for this kid')
  if (signer.kid !== envelope.kid) return refuse('kid_mismatch', "kid is not the record's")
  if (lenserId === null || signer.lenserId === lenserId) return null
  return refuse('kid_mismatch', "the signer's account is not the subject's")
}
