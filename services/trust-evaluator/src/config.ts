import { decodeKey, kidOfKey, publicKeyOf, type SigningKey } from '@lenserfight/envelope'
import { commonConfig, configSchema, readSecret, SigningConfig } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import Type, { type Static } from 'typebox'

/** The trust-evaluator's configuration: common parts and a key with the use `receipt`. */
export const EvaluatorConfig = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  /** Batches under way at once, each with a connection of its own. */
  concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 16 })),
  /** How often runs are looked for whose level is due to be judged again. */
  reevaluate_ms: Type.Optional(Type.Integer({ minimum: 50, maximum: 60_000 })),
})
export type EvaluatorConfig = Static<typeof EvaluatorConfig>

export const defaults = { concurrency: 2, reevaluateMs: 1000 } as const

/**
 * The key that signs receipts.
 * @throws CodedError `config_invalid` when it cannot be read, is not that of `kid`, or may not sign receipts
 */
export const readSigner = ({ signing }: EvaluatorConfig): SigningKey => {
  const key = decodeKey(readSecret(signing.seed_file))
  if (kidOfKey(publicKeyOf(key)) !== signing.kid) {
    throw new CodedError('config_invalid', 'signing.kid is not that of the key')
  }
  const uses: readonly string[] = signing.uses
  if (!uses.includes('receipt')) throw new CodedError('config_invalid', 'the signing key lacks the use receipt')
  return { kid: signing.kid, key }
}
