import { type Refusal, refuse } from '../errors.ts'
import type { ReceivedEnvelope } from '../types.ts'

/** Does the body say of which kind it is, and is it the subject's? */
export function checkKind({ envelope }: ReceivedEnvelope, kind: string): Refusal | null {
  return envelope.body.kind === kind ? null : refuse('kind_mismatch', "the body's kind is not the subject's")
}
