import { isUint8Array } from 'node:util/types'
import { canonicalize } from './canonicalize.ts'
import { EnvelopeError, type Refusal } from './errors.ts'
import { checkAlgorithm } from './steps/algorithm.ts'
import { parseReceived } from './steps/parse.ts'
import { checkSignature } from './steps/signature.ts'
import { checkVersion } from './steps/version.ts'
import type { Envelope, PublicKey } from './types.ts'

/**
 * Verifies an envelope against one public key: the questions that need no door. Whose key it must be, whether it is
 * fresh and whether it came before, the caller asks (see `checkEnvelope`).
 *
 * @param received the bytes or text received; or an envelope already parsed, which is taken for its canonical form
 * @param publicKey raw 32 bytes
 * @returns the parsed envelope
 * @throws EnvelopeError `malformed_envelope`, `not_canonical`, `unsupported_version`, `unsupported_algorithm` or
 * `signature_mismatch`, the first that applies
 */
export function verifyEnvelope(received: Uint8Array | string | Envelope, publicKey: PublicKey): Envelope {
  const read = parseReceived(isWireForm(received) ? received : canonicalize(received))
  if (!read.ok) throw asError(read)
  const refusal = checkVersion(read) ?? checkAlgorithm(read) ?? checkSignature(read, publicKey)
  if (refusal !== null) throw asError(refusal)
  return read.envelope
}

function isWireForm(received: Uint8Array | string | Envelope): received is Uint8Array | string {
  return typeof received === 'string' || isUint8Array(received)
}

function asError({ code, detail }: Refusal): EnvelopeError {
  return new EnvelopeError(code, detail)
}
