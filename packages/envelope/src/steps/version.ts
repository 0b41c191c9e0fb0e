import { type Refusal, refuse } from '../errors.ts'
import type { ReceivedEnvelope } from '../types.ts'

/** Is it of a version that we know? RFC-0003 §3 has one. */
export function checkVersion({ envelope }: ReceivedEnvelope): Refusal | null {
  return envelope.v === 1 ? null : refuse('unsupported_version', 'v is not 1')
}
