import { encodeBase64Url, envelopeDigest, newUuidV7, type PrivateKey, signEnvelope } from '@lenserfight/envelope'
import { hasCounter, type KindName, kinds } from '@lenserfight/schemas'
import { nextCounter, type Signatory } from '@lenserfight/testkit'

/** What is said: a kind and its members; `aud`, `op_id` and `counter` are added where they are not given. */
export type Said = { readonly kind: KindName } & Readonly<Record<string, unknown>>

/** What may be other than honest about an envelope. */
export interface Forgery {
  /** Whose key signs; the signatory's own by default. */
  readonly key?: PrivateKey
  readonly nonce?: string
  /** Unix seconds. */
  readonly iat?: number
  /** When the broker stored it, by a verifier's word where there is one; milliseconds. */
  readonly at?: number
}

/** An envelope as it goes out. */
export interface Sealed {
  readonly kind: KindName
  readonly text: string
  readonly bytes: Uint8Array
  readonly nonce: string
  readonly iat: number
  /** base64url. */
  readonly digest: string
  readonly at?: number
}

/** Signs what is said in the name of a signatory. */
export const seal = (gatewayId: string, signer: Signatory, said: Said, { at, ...forgery }: Forgery = {}): Sealed => {
  const { kind } = said
  const operation = kinds[kind].operation ? { op_id: newUuidV7() } : {}
  const counted = hasCounter(kind) ? { counter: nextCounter() } : {}
  const body = { aud: gatewayId, ...operation, ...counted, ...said }
  const { bytes, text, envelope } = signEnvelope({ kid: signer.kid, key: signer.keys.privateKey, ...forgery, body })
  const digest = encodeBase64Url(envelopeDigest(bytes))
  return { kind, text, bytes, nonce: envelope.nonce, iat: envelope.iat, digest, ...(at === undefined ? {} : { at }) }
}
