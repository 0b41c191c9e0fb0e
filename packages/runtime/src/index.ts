/** @lenserfight/runtime: config, logger, health and lifecycle of a process. No NATS, no pg. */
export {
  baseConfig,
  CommonConfig,
  commonConfig,
  configSchema,
  HealthConfig,
  type LogLevel,
  logLevels,
  NatsConfig,
  PgConfig,
  SigningConfig,
} from './common-config.ts'
export { type ConfigArguments, checkConfig, parseConfigArguments, readConfig, readSecret } from './config.ts'
export { codeOf, InfrastructureError } from './errors.ts'
export { createGate, type Gate, type GateOptions } from './gate.ts'
export { type HealthOptions, type HealthServer, serveHealth } from './health.ts'
export { createLifecycle, type Lifecycle, type LifecycleOptions } from './lifecycle.ts'
export { createLogger, type Logger, type LoggerOptions } from './logger.ts'
export { createReadiness, type Readiness } from './readiness.ts'
export { describeError, redact, short } from './redact.ts'
export { type Repetition, type RepetitionOptions, startRepeating } from './repeat.ts'
export { createState, type StateHolder, type WorkerState, workerStates } from './worker-state.ts'
