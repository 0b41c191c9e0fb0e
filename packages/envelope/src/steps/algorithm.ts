import { type Refusal, refuse } from '../errors.ts'
import type { ReceivedEnvelope } from '../types.ts'

/** Is it signed in the one way that we know? The member only says so; nothing is ever chosen by it. */
export function checkAlgorithm({ envelope }: ReceivedEnvelope): Refusal | null {
  return envelope.alg === 'ed25519' ? null : refuse('unsupported_algorithm', 'alg is not ed25519')
}
