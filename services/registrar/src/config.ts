import { commonConfig, configSchema, SigningConfig } from '@lenserfight/runtime'
import { ShortText } from '@lenserfight/schemas'
import Type, { type Static } from '@lenserfight/schemas/typebox'
import { Issuer } from './token/issuer.ts'

const count = (maximum: number) => Type.Integer({ minimum: 1, maximum })

/** The registrar's configuration: common parts, a key with the uses `receipt` and `answer`, and who vouches for owners. */
export const RegistrarConfig = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  keys_file: ShortText(4096),
  issuers: Type.Array(Issuer, { minItems: 1, maxItems: 16 }),
  /** How much of the `ask` door is under way at once. */
  asks: Type.Optional(
    Type.Object({ at_once: count(256), waiting: count(10_000), per_kid: count(1000) }, { additionalProperties: false }),
  ),
})
export type RegistrarConfig = Static<typeof RegistrarConfig>

/** By default: what a pool of a few connections works off within a second, and a tenth of it for one asker. */
export const defaultAsks = { at_once: 16, waiting: 512, per_kid: 32 } as const
