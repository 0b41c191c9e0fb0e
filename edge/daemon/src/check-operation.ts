import { CodedError, checkBody, limits } from '@lenserfight/schemas'

/** What an envelope needs around its body. */
const framingBytes = 512

/**
 * Refuses a body that its kind's schema or the envelope's size limit refuses: what cannot succeed is never kept.
 * @throws CodedError `malformed_body`
 */
export const checkOperation = (body: object, gatewayId: string): void => {
  // The longest counter there is: what fits with it fits with any.
  const whole = { ...body, aud: gatewayId, counter: Number.MAX_SAFE_INTEGER } as { kind?: unknown }
  const wrong = checkBody(String(whole.kind), whole)
  if (wrong !== null) throw new CodedError('malformed_body', wrong)
  // Canonical form escapes as JSON.stringify does, so the length is the same in another order.
  if (Buffer.byteLength(JSON.stringify(whole)) > limits.envelopeBytes - framingBytes) {
    throw new CodedError('malformed_body', 'it is too large for an envelope')
  }
}
