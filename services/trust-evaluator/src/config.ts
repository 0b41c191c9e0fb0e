import { commonConfig, configSchema, SigningConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

/** The trust-evaluator's configuration: common parts and a key with the use `receipt`. */
export const EvaluatorConfig = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  /** Batches under way at once, each with a connection of its own. */
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 16 })),
  /** How often runs are looked for whose level is due to be judged again. */
  reevaluate_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 60_000 })),
  /** How often devices are looked for that earned `trusted` or fell silent. */
  tend_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 3_600_000 })),
  /** How often suspicions are looked at that two hold one device's key. */
  forks_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 60_000 })),
  /** How often XP jobs are looked for. */
  xp_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 60_000 })),
  /** How often envelopes that were counted long ago are forgotten. */
  settle_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 3_600_000 })),
})
export type EvaluatorConfig = Static<typeof EvaluatorConfig>

export const defaults = {
  concurrency: 2,
  reevaluateMs: 1000,
  tendMs: 60_000,
  forksMs: 1000,
  xpMs: 1000,
  settleMs: 300_000,
} as const
