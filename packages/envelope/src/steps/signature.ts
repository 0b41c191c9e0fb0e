import { type Refusal, refuse } from '../errors.ts'
import type { PublicKey, ReceivedEnvelope } from '../types.ts'
import { verifySignature } from '../verify-signature.ts'
import { signatureBytes, signingDigest } from '../wire.ts'

/**
 * Did the holder of that key sign these bytes? By far the dearest question, so it is the last. A caller that asks it
 * elsewhere (in a thread) takes `signingDigest` and `signatureBytes` there and refuses in the same words.
 */
export function checkSignature({ bytes, envelope }: ReceivedEnvelope, publicKey: PublicKey): Refusal | null {
  return verifySignature(publicKey, signingDigest(bytes), signatureBytes(envelope)) ? null : signatureRefusal()
}

/** The refusal of a signature that did not verify. */
export function signatureRefusal(): Refusal {
  return refuse('signature_mismatch', 'the signature does not verify under the key on record')
}
