import { baseConfig, configSchema, PgConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

const { nats: _offTheBus, ...base } = baseConfig

/** The audit-chain worker's configuration: the common parts without the broker, to which it has nothing to say. */
export const AuditChainConfig = configSchema({
  ...base,
  pg: PgConfig,
  linking: Type.Optional(
    Type.Object(
      {
        /** Records linked in one transaction, during which the chains that they belong to are held. */
        batch: Type.Integer({ minimum: 1, maximum: 100_000 }),
        /** How long it rests once there is nothing to link. Milliseconds. */
        poll_ms: Type.Integer({ minimum: 10, maximum: 60_000 }),
      },
      { additionalProperties: false },
    ),
  ),
})
export type AuditChainConfig = Static<typeof AuditChainConfig>

/** By default a tenth of a second's work at a time, and a look five times a second. */
export const defaultLinking = { batch: 2000, poll_ms: 200 } as const
