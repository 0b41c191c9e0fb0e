/** @lenserfight/cli: the command `lf`. A program, not a library: what is exported is what its tests and docs name. */
export { exitCodes } from '@lenserfight/schemas'
export { createCli } from './cli.ts'
export { findProjectSecrets, type ProjectSecret, saveProjectConfig } from './project/config.ts'
export { findEnvironmentSecrets } from './project/secrets.ts'
