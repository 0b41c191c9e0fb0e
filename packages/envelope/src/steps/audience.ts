import { type Refusal, refuse } from '../errors.ts'
import type { ReceivedEnvelope } from '../types.ts'

/** Was it signed for this gateway? Else an envelope for one deployment could be played to another. */
export function checkAudience({ envelope }: ReceivedEnvelope, gatewayId: string): Refusal | null {
  return envelope.body.aud === gatewayId ? null : refuse('audience_mismatch', "the body's aud is not this gateway")
}
