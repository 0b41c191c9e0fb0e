/** @lenserfight/envelope: canonicalize, sign and verify signed envelopes (RFC-0003 §3, RFC 8785, RFC 8032). No I/O. */
export { decodeBase64Url, encodeBase64Url } from './base64url.ts'
export { canonicalize } from './canonicalize.ts'
export {
  checkEnvelope,
  checkForm,
  checkSigner,
  type Expectations,
  type FormExpectations,
  type FormRefusal,
  type Message,
} from './check-envelope.ts'
export { checkVerified, type Verified, type VerifiedExpectations } from './check-verified.ts'
export { type EnvelopeCode, EnvelopeError, envelopeCodes, type Refusal, refuse } from './errors.ts'
export { type Claimed, type FormerKey, judgeFormerKeys } from './former-keys.ts'
export { isUuid, isUuidV7, newUuidV7, randomNonce, uuidV7Time } from './ids.ts'
export { type KeyChange, signKeyProof, verifyKeyProof } from './key-proof.ts'
export { decodeKey, encodeKey, generateKeyPair, kidOfKey, publicKeyOf } from './keys.ts'
export { parseCanonical, type Read, readEnvelope } from './read-envelope.ts'
export {
  createSigner,
  type EnvelopeSigner,
  type SignedEnvelope,
  type SigningKey,
  signEnvelope,
  type Unsigned,
} from './sign-envelope.ts'
export { loadSodium, type Sodium, type SodiumBuild, sodium } from './sodium.ts'
export type { BodyCheck } from './steps/body.ts'
export { checkSignature, signatureRefusal } from './steps/signature.ts'
export { checkSignerRecord, type SignerRecord } from './steps/signer.ts'
export type { Envelope, EnvelopeBody, KeyPair, PrivateKey, PublicKey, ReceivedEnvelope } from './types.ts'
export { verifyEnvelope } from './verify-envelope.ts'
export { verifySignature } from './verify-signature.ts'
export { envelopeDigest, signatureBytes, signedBytes, signingDigest } from './wire.ts'
