import { join } from 'node:path'
import { type PgConnection, readEnvironment } from '@lenserfight/local'

/** What a test run hands to each test file. The only place in this package that reads the environment. */
export interface TestEnvironment {
  /** Superuser of the run's shared cluster; undefined when a file is run by itself. */
  pg: PgConnection | undefined
  /** nats-server binary that the run found. */
  natsServer: string | undefined
  /** Folder below which every log of the run goes; it is scanned for secrets afterwards. */
  logs: string | undefined
  migrations: string
  /** What a test with chance in it begins with, to see a run again that failed; undefined: by chance. */
  seed: number | undefined
  /** Where programs are looked for. */
  path: string
}

/** Names of the variables, for the runner that sets them. */
export const testVariables = {
  pg: 'LTG_TEST_PG',
  natsServer: 'LTG_NATS_SERVER',
  logs: 'LTG_TEST_LOGS',
  seed: 'LTG_TEST_SEED',
} as const

export function readTestEnvironment(env: NodeJS.ProcessEnv = process.env): TestEnvironment {
  const pg = env[testVariables.pg]
  const seed = env[testVariables.seed]
  return {
    pg: pg === undefined ? undefined : (JSON.parse(pg) as PgConnection),
    natsServer: env[testVariables.natsServer],
    logs: env[testVariables.logs],
    migrations: join(readEnvironment(env).repository, 'migrations'),
    seed: seed === undefined ? undefined : Number(seed),
    path: env.PATH ?? '',
  }
}
