import { type Message, verifyKeyProof } from '@lenserfight/envelope'
import type { ReproveBody } from '@lenserfight/schemas'

/**
 * Whether the new key that an owner vouches for proved itself in this very operation: an owner must not be made to vouch
 * for a key that nobody holds, or that somebody took from elsewhere. Of other kinds there is nothing to prove.
 */
export const isProofGood = ({ kind, envelope }: Message, gatewayId: string): boolean => {
  if (kind !== 'reprove') return true
  const { op_id, device_id, new_public_key, proof } = envelope.body as unknown as ReproveBody
  const change = { kind, aud: gatewayId, device_id, op_id, old_public_key: null, new_public_key } as const
  return verifyKeyProof(change, proof)
}
