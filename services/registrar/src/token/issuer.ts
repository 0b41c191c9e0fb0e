import { limits, ShortText } from '@lenserfight/schemas'
import Type, { type Static, type TSchema } from '@lenserfight/schemas/typebox'

/** Signature algorithms of tokens whose issuer has a key set; never `none`, never one whose key is a shared secret. */
export const keySetAlgorithms = ['EdDSA', 'ES256', 'RS256'] as const
/** The one of an issuer that shares a secret with us. */
export const secretAlgorithms = ['HS256'] as const

const issuer = <P extends Record<string, TSchema>>(properties: P) =>
  Type.Object(
    {
      issuer: ShortText(512),
      /** What the token's `aud` must name: the gateway's id, or what the platform puts there (Supabase: `authenticated`). */
      audience: ShortText(512),
      /**
       * `nonce`: the token's `nonce` must name the session key that presents it, so that whoever reads it on its way can
       * do nothing with it. `none`, for issuers that cannot: the first key that presents a token has it.
       */
      binding: Type.Union([Type.Literal('nonce'), Type.Literal('none')]),
      /** Seconds after its issue that a token counts at most; `limits.tokenLifeSeconds` where absent. */
      max_age_seconds: Type.Optional(Type.Integer({ minimum: 60, maximum: limits.tokenLifeMaxSeconds })),
      /** Whether `auth.uid()` says this issuer's subjects: of one issuer at most. Others' subjects may be the same UUIDs. */
      backs_auth_uid: Type.Optional(Type.Boolean()),
      ...properties,
    },
    { additionalProperties: false },
  )

/** Publishes its keys; they are fetched over HTTPS, or in the clear from this machine alone. */
const KeySetIssuer = issuer({
  jwks_url: Type.String({
    maxLength: 1024,
    pattern: '^(https://[^/?#@\\\\]+|http://(127\\.0\\.0\\.1|localhost|\\[::1\\])(:[0-9]{1,5})?)(/[^#]*)?$',
  }),
})

/** Shares a secret with us, the content of a file: at least `limits.tokenSecretBytes` long. */
const SecretIssuer = issuer({ secret_file: ShortText(4096) })

/** Who may vouch for owners: with a key set or a secret, and never both, so that no key of the one is taken for the other's. */
export const Issuer = Type.Union([KeySetIssuer, SecretIssuer])
export type Issuer = Static<typeof Issuer>
