/** How checks travel to a thread: key, signature and signed digest of each, one after another. */
const keyBytes = 32
const signatureBytes = 64
const digestBytes = 32
export const checkBytes = keyBytes + signatureBytes + digestBytes

/** One signature to check. */
export interface SignatureCheck {
  /** Raw 32 bytes. */
  readonly publicKey: Uint8Array
  /** 64 bytes. */
  readonly signature: Uint8Array
  /** The 32 bytes that were signed (`signingDigest`). */
  readonly digest: Uint8Array
}

/** Checks as bytes of their own, ready to be handed over without a copy. */
export const packChecks = (checks: readonly SignatureCheck[]): ArrayBuffer => {
  const packed = new Uint8Array(checks.length * checkBytes)
  let at = 0
  for (const { publicKey, signature, digest } of checks) {
    packed.set(publicKey, at)
    packed.set(signature, at + keyBytes)
    packed.set(digest, at + keyBytes + signatureBytes)
    at += checkBytes
  }
  return packed.buffer
}

/** The check at a place. */
export const checkAt = (packed: Uint8Array, place: number): SignatureCheck => {
  const at = place * checkBytes
  const signatureAt = at + keyBytes
  const digestAt = signatureAt + signatureBytes
  return {
    publicKey: packed.subarray(at, signatureAt),
    signature: packed.subarray(signatureAt, digestAt),
    digest: packed.subarray(digestAt, at + checkBytes),
  }
}
