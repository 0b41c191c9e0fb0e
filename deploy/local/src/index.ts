export { type LocalEnvironment, readEnvironment } from './env.ts'
export { LocalError, type LocalErrorCode, localErrorCodes } from './errors.ts'
export { ownFolder, runFolderOf, temporaryRunFolder, writePrivateJson } from './folders.ts'
export { type Nats, type NatsOptions, startNats } from './nats.ts'
export { ensureNatsServer, type FindOptions, type WantedServer } from './nats-server.ts'
export { type NatsServer, oldestSupported } from './nats-server-version.ts'
export { freePort, freePorts } from './ports.ts'
export { type Postgres, type PostgresOptions, startPostgres } from './postgres.ts'
export {
  createDatabase,
  dropDatabase,
  type NewDatabase,
  type PgClient,
  type PgConnection,
  rolePassword,
  urlOf,
  withClient,
} from './postgres-connection.ts'
export { startOf } from './process-identity.mjs'
export { type Exit, type Program, type ProgramOptions, startProgram } from './program.ts'
export { cleanDeadRun, cleanDeadRuns, openRun, type Run } from './run.ts'
export { type Finding, scanLogs } from './scan-logs.ts'
export { onStopRequest, type StopRequest } from './stop-signals.ts'
export {
  createSupervisor,
  type Supervisor,
  type SupervisorOptions,
  type Worker,
  type WorkerSpec,
  type WorkerState,
  workerStates,
} from './supervisor.ts'
