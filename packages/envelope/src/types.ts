/** The body of an envelope: a JSON object. Which members it has is the contract's business, not this package's. */
export type EnvelopeBody = { readonly [member: string]: unknown }

/**
 * A signed envelope, RFC-0003 §3. What `parseCanonical` returns has exactly these members, of these forms;
 * that `v` and `alg` are ones we know, and that the signature is good, are later questions.
 */
export type Envelope<Body = EnvelopeBody> = {
  /** Envelope version: a safe integer. 1 is the only one there is. */
  readonly v: number
  /** Signature algorithm: `ed25519` is the only one there is. */
  readonly alg: string
  /** Who signs: a device id, or an id derived from the key (see `kidOfKey`). A lower-case UUID. */
  readonly kid: string
  /** When it was signed, by the signer's clock: Unix time in seconds, a safe integer. */
  readonly iat: number
  /** 128 random bits as 22 base64url characters. */
  readonly nonce: string
  readonly body: Body
  /** Ed25519 over the SHA-256 of the canonical form of the other six members: 86 base64url characters. */
  readonly sig: string
}

/** A received envelope that is what the protocol calls canonical, with the bytes it came in. Nothing is proven yet. */
export type ReceivedEnvelope = {
  readonly envelope: Envelope
  /** The bytes as received. These are stored and hashed; nothing is ever rebuilt from the parsed form. */
  readonly bytes: Uint8Array
  /** Their text: what a verified batch carries. */
  readonly text: string
}

/** A raw Ed25519 public key, 32 bytes (RFC 8032 §5.1.5). */
export type PublicKey = Uint8Array

/** A raw Ed25519 private key, 32 bytes: the seed of RFC 8032 §5.1.5, not the 64-byte form that some libraries use. */
export type PrivateKey = Uint8Array

export type KeyPair = { readonly publicKey: PublicKey; readonly privateKey: PrivateKey }
