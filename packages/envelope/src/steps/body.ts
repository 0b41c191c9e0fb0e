import { type Refusal, refuse } from '../errors.ts'
import type { EnvelopeBody, ReceivedEnvelope } from '../types.ts'

/**
 * Says what is wrong with a body of that kind, without anything of the body in it; null where nothing is.
 * The contract knows the kinds, so it is injected.
 */
export type BodyCheck = (kind: string, body: EnvelopeBody) => string | null

/** Has the body the form of its kind? */
export function checkBodyForm({ envelope }: ReceivedEnvelope, kind: string, checkBody: BodyCheck): Refusal | null {
  const wrong = checkBody(kind, envelope.body)
  return wrong === null ? null : refuse('malformed_body', wrong)
}
