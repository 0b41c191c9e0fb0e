import { commonConfig, configSchema, SigningConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

/** The sync-applier's configuration: common parts and a key with the use `receipt`. */
export const ApplierConfig = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  /** Batches under way at once, each with a connection of its own. */
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 16 })),
  /** How often is looked for what the cloud wrote and feeds do not tell yet. */
  sequence_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 60_000 })),
  /** How often is looked for what can be forgotten or archived. */
  tend_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 3_600_000 })),
})
export type ApplierConfig = Static<typeof ApplierConfig>

export const defaults = { concurrency: 2, sequenceMs: 1000, tendMs: 60_000 } as const
