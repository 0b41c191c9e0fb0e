import { ShortText } from '@lenserfight/schemas'
import Type, { type Static } from 'typebox'

/** Signature algorithms that a token may name; never `none`, never one whose key is a shared secret. */
export const tokenAlgorithms = ['EdDSA', 'ES256', 'RS256'] as const

/** Who may vouch for owners. The key set is fetched over HTTPS, or in the clear from this machine alone. */
export const Issuer = Type.Object(
  {
    issuer: ShortText(512),
    jwks_url: Type.String({
      maxLength: 1024,
      pattern: '^(https://[^/?#@\\\\]+|http://(127\\.0\\.0\\.1|localhost|\\[::1\\])(:[0-9]{1,5})?)(/[^#]*)?$',
    }),
    /** What the token's `aud` must name: this gateway. */
    audience: ShortText(512),
    /** Whether the token's `nonce` must name the session key that presents it. */
    require_nonce: Type.Boolean(),
    /** Whether `auth.uid()` says this issuer's subjects: of one issuer at most. Others' subjects may be the same UUIDs. */
    backs_auth_uid: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)
export type Issuer = Static<typeof Issuer>
