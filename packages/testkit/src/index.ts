export { readTestEnvironment, type TestEnvironment, testVariables } from './env.ts'
export { type TestDatabase, testPostgres } from './postgres.ts'
