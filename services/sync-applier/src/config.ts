import { commonConfig, configSchema, SigningConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

/** The sync-applier's configuration: common parts and a key with the use `receipt`. */
export const ApplierConfig = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  /** Batches under way at once, each with a connection of its own. */
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 16 })),
})
export type ApplierConfig = Static<typeof ApplierConfig>

export const defaults = { concurrency: 2 } as const
