import { commonConfig, configSchema, readConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

const Schema = configSchema({
  ...commonConfig,
  /** File with the seed of the account NKey (`SA…`) whose public half the broker's configuration names as issuer. */
  callout_seed_file: Type.String({ minLength: 1, maxLength: 4096 }),
  /** File with the NKey seed of the broker's system user, whose one right is to cut a connection. */
  system_seed_file: Type.String({ minLength: 1, maxLength: 4096 }),
  /** Milliseconds after which an answer comes too late: below the broker's own limit (`authorization.timeout`). */
  deadline_ms: Type.Optional(Type.Integer({ minimum: 100, maximum: 60_000 })),
  /** Connections judged at once; as many again wait, and further ones are left to the broker's time limit. */
  max_in_flight: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536 })),
})
export type BrokerAuthConfig = Static<typeof Schema>

/**
 * This process's configuration.
 * @throws CodedError `config_invalid`
 */
export const readBrokerAuthConfig = (argv: readonly string[]): BrokerAuthConfig => readConfig(Schema, argv)
