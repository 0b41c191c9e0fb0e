import { baseConfig, configSchema, readConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

const Schema = configSchema({
  ...baseConfig,
  /** Milliseconds between two looks at the broker. */
  look_ms: Type.Optional(Type.Integer({ minimum: 100, maximum: 2000 })),
})
export type ProvisionerConfig = Static<typeof Schema>

/**
 * This process's configuration.
 * @throws CodedError `config_invalid`
 */
export const readProvisionerConfig = (argv: readonly string[]): ProvisionerConfig => readConfig(Schema, argv)
