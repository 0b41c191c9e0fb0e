export { nextCounter } from './counter.ts'
export { readTestEnvironment, type TestEnvironment, testVariables } from './env.ts'
export {
  type Account,
  makeAccount,
  makeBattle,
  makeContender,
  makeDevice,
  makeLegacyDevice,
  makeRunner,
  makeSession,
  makeSubmission,
  makeVersion,
  type OwnerDatabase,
  type Signatory,
  setLevel,
  transitionsTo,
  type Version,
} from './fixtures.ts'
export { logOutput } from './log-output.ts'
export { type TestDatabase, testPostgres } from './postgres.ts'
