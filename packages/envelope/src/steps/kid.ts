import { type Refusal, refuse } from '../errors.ts'
import type { ReceivedEnvelope } from '../types.ts'

/**
 * Does the signer name itself as the subject does, whom the broker authenticated?
 *
 * @param kid the subject's device or key id; null at a door whose subject names nobody (`connect`)
 */
export function checkKid({ envelope }: ReceivedEnvelope, kid: string | null): Refusal | null {
  return kid === null || envelope.kid === kid ? null : refuse('kid_mismatch', "kid is not the subject's")
}
