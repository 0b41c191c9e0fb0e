import { keyUses, ShortText, serviceNames, Uuid } from '@lenserfight/schemas'
import Type, { type Static, type TProperties } from '@lenserfight/schemas/typebox'

const closed = { additionalProperties: false }
const Path = ShortText(4096)
const Port = Type.Integer({ minimum: 0, maximum: 65535 })

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** The broker: its addresses, and the file that holds this service's NKey seed. */
export const NatsConfig = Type.Object(
  { servers: Type.Array(ShortText(256), { minItems: 1, maxItems: 16 }), seed_file: Path },
  closed,
)
/** The database, as this service's own role. `host` may be the folder of a Unix socket. */
export const PgConfig = Type.Object(
  {
    host: Path,
    port: Port,
    database: ShortText(63),
    user: ShortText(63),
    password_file: Path,
    max: Type.Integer({ minimum: 1, maximum: 100 }),
  },
  closed,
)
/** The key with which this service speaks in the gateway's name; `seed_file` holds 32 bytes as base64url. */
export const SigningConfig = Type.Object(
  {
    seed_file: Path,
    kid: Uuid,
    uses: Type.Array(Type.Enum([...keyUses]), { minItems: 1 }),
  },
  closed,
)
/** Where health is served on 127.0.0.1; port 0 takes a free one, which `file` then names. */
export const HealthConfig = Type.Object({ port: Port, file: Type.Optional(Path) }, closed)

/** What every worker's configuration has but its database. */
export const baseConfig = {
  service: Type.Union(serviceNames.map((name) => Type.Literal(name))),
  replica: Type.Optional(ShortText(32)),
  gateway_id: Uuid,
  log_level: Type.Union(logLevels.map((level) => Type.Literal(level))),
  health: HealthConfig,
  /** The process stops when its standard input or its IPC channel closes: its supervisor is gone. */
  supervised: Type.Optional(Type.Boolean()),
  nats: NatsConfig,
}

/** What every worker with a database has: spread it into the service's own schema. */
export const commonConfig = {
  ...baseConfig,
  pg: PgConfig,
  signing: Type.Optional(SigningConfig),
  /** The gateway's key list, signed by its root key: canonical text of an envelope of kind `keys`. */
  keys_file: Type.Optional(Path),
}

/** A configuration schema: unknown keys are refused. */
export const configSchema = <P extends TProperties>(properties: P) => Type.Object(properties, closed)

/** A configuration with nothing but the common parts. */
export const CommonConfig = configSchema(commonConfig)
export type CommonConfig = Static<typeof CommonConfig>
export type NatsConfig = Static<typeof NatsConfig>
export type PgConfig = Static<typeof PgConfig>
export type SigningConfig = Static<typeof SigningConfig>
export type HealthConfig = Static<typeof HealthConfig>
