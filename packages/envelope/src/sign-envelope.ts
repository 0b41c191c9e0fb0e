import { canonicalize } from './canonicalize.ts'
import { EnvelopeError } from './errors.ts'
import { randomNonce } from './ids.ts'
import { publicKeyOf } from './keys.ts'
import { readEnvelope } from './read-envelope.ts'
import { sodium } from './sodium.ts'
import type { Envelope, PrivateKey } from './types.ts'
import { envelopeDigest, signingDigest } from './wire.ts'

/** What is signed. Everything left out is made at signing. */
export type Unsigned<Body extends object = object> = {
  readonly body: Body
  /** Unix seconds. By default the signer's clock, rounded down. */
  readonly iat?: number
  /** 22 base64url characters. By default 128 random bits: each attempt to send is signed anew, so leave it out. */
  readonly nonce?: string
}

export type SigningKey = {
  /** Who signs: a lower-case UUID. */
  readonly kid: string
  /** Raw 32-byte private key. */
  readonly key: PrivateKey
  /** The clock, Unix milliseconds. Date.now by default. */
  readonly now?: () => number
}

export type SignedEnvelope<Body = object> = {
  readonly envelope: Envelope<Body>
  /** The canonical form: what goes on the wire, byte for byte. */
  readonly bytes: Uint8Array
  /** `bytes` as text. */
  readonly text: string
  /** SHA-256 of `bytes`: what a receipt will name. */
  readonly digest: Uint8Array
}

/** Signs one envelope after another with one key. */
export type EnvelopeSigner = {
  readonly kid: string
  readonly publicKey: Uint8Array
  /** Throws as `signEnvelope` does. */
  sign<Body extends object>(unsigned: Unsigned<Body>): SignedEnvelope<Body>
}

/** Where the placeholder of a signature begins, counted from the end: before `","v":1}`. */
const SIG_FROM_END = 86 + 8
const PLACEHOLDER = 'A'.repeat(86)

/**
 * A signer for many envelopes: the key is expanded once.
 *
 * @throws TypeError where the key is not 32 bytes
 */
export function createSigner({ kid, key, now = Date.now }: SigningKey): EnvelopeSigner {
  const publicKey = publicKeyOf(key)
  const { secretKey } = sodium.expand(key)
  return {
    kid,
    publicKey,
    sign<Body extends object>(unsigned: Unsigned<Body>): SignedEnvelope<Body> {
      const { iat = Math.floor(now() / 1000), nonce = randomNonce(), body } = unsigned
      const bytes = Buffer.from(canonicalize({ alg: 'ed25519', body, iat, kid, nonce, sig: PLACEHOLDER, v: 1 }))
      // What our own door would refuse is not signed, so a signature never vouches for something unreadable.
      const read = readEnvelope(bytes)
      if (!read.ok) throw new EnvelopeError(read.code, read.detail)
      const sig = Buffer.from(sodium.sign(signingDigest(bytes), secretKey)).toString('base64url')
      bytes.write(sig, bytes.length - SIG_FROM_END, 'latin1')
      return {
        envelope: { ...(read.envelope as Envelope<Body>), sig },
        bytes,
        text: bytes.toString(),
        digest: envelopeDigest(bytes),
      }
    },
  }
}

/**
 * Signs an envelope (RFC-0003 §3): Ed25519 over the SHA-256 of the canonical form. The envelope returned is what was
 * signed, read back from the bytes; it shares nothing with the body given.
 *
 * @throws EnvelopeError `malformed_envelope` where the result would not be an envelope: see `parseCanonical`
 * @throws TypeError where the key is not 32 bytes
 */
export function signEnvelope<Body extends object>(input: SigningKey & Unsigned<Body>): SignedEnvelope<Body> {
  return createSigner(input).sign(input)
}
