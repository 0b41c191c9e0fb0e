import { availableParallelism } from 'node:os'
import { commonConfig, configSchema, readConfig, SigningConfig } from '@lenserfight/runtime'
import Type, { type Static } from '@lenserfight/schemas/typebox'

const Schema = configSchema({
  ...commonConfig,
  signing: SigningConfig,
  /** Threads that check signatures; 0 checks on the main one. By default as many as there are cores, at most 4. */
  signature_threads: Type.Optional(Type.Integer({ minimum: 0, maximum: 64 })),
  /** The build of libsodium; by default the native one where it loads. */
  sodium: Type.Optional(Type.Union([Type.Literal('native'), Type.Literal('wasm')])),
  batch: Type.Optional(
    Type.Object(
      {
        /** Messages claimed in one call at most. */
        max_messages: Type.Integer({ minimum: 1, maximum: 4096 }),
        /** Milliseconds that the first of a batch waits for others. */
        max_wait_ms: Type.Integer({ minimum: 0, maximum: 1000 }),
        /** Batches under way at once; each in the claim uses a database connection. */
        in_flight: Type.Integer({ minimum: 1, maximum: 16 }),
      },
      { additionalProperties: false },
    ),
  ),
  /** Devices whose keys are kept at hand. */
  signer_cache: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
})

type Config = Static<typeof Schema>
export type VerifierConfig = ReturnType<typeof withDefaults>

/** The size of a batch at which a claim call reached its best speed, and as many under way as keep every stage busy. */
const defaultBatch = { max_messages: 512, max_wait_ms: 5, in_flight: 8 } as const

const withDefaults = (config: Config) => ({
  ...config,
  signature_threads: config.signature_threads ?? Math.min(4, availableParallelism()),
  batch: config.batch ?? defaultBatch,
  signer_cache: config.signer_cache ?? 20_000,
})

/**
 * This process's configuration.
 * @throws CodedError `config_invalid`
 */
export const readVerifierConfig = (argv: readonly string[]): VerifierConfig => withDefaults(readConfig(Schema, argv))
