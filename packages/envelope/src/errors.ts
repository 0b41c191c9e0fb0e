import { CodedError, type ReasonCode } from '@lenserfight/schemas'

/** The codes that checking an envelope can end in, in the order in which the questions are asked. */
export const envelopeCodes = [
  'malformed_envelope',
  'not_canonical',
  'unsupported_version',
  'unsupported_algorithm',
  'kid_mismatch',
  'kind_mismatch',
  'audience_mismatch',
  'unsupported_kind',
  'malformed_body',
  'unknown_device',
  'signature_mismatch',
] as const satisfies readonly ReasonCode[]

export type EnvelopeCode = (typeof envelopeCodes)[number]

/** Why an envelope is refused. A value, not an error: a worker refuses thousands a second. */
export type Refusal = {
  readonly ok: false
  readonly code: EnvelopeCode
  /** For people and logs: a constant sentence, without anything of the envelope in it. */
  readonly detail: string
}

export function refuse(code: EnvelopeCode, detail: string): Refusal {
  return { ok: false, code, detail }
}

/**
 * An envelope that is refused, or a value that cannot be in one. As with every coded error, `message` is the sentence
 * for people and `detail` what was wrong in this case.
 */
export class EnvelopeError extends CodedError {
  override readonly name = 'EnvelopeError'
  declare readonly code: EnvelopeCode

  constructor(code: EnvelopeCode, detail: string, options?: ErrorOptions) {
    super(code, detail, options)
  }
}
