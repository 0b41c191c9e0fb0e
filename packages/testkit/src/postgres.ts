import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { migrate } from '@lenserfight/db'
import {
  createDatabase,
  dropDatabase,
  openRun,
  type PgClient,
  type PgConnection,
  readEnvironment,
  rolePassword,
  startPostgres,
  temporaryRunFolder,
  withClient,
} from '@lenserfight/local'
import { readTestEnvironment, type TestEnvironment } from './env.ts'

/** A database of one's own, with every migration applied. */
export interface TestDatabase {
  /** As superuser. */
  readonly owner: PgConnection
  /** As one of the login roles of the services, with its real password. */
  as(role: string): PgConnection
  /** Drops it, whoever is connected. Without this it goes with the cluster. */
  drop(): Promise<void>
}

/** Which lock keeps two files from building the same template at once; any number that nobody else uses. */
const templateLock = 7_204_115

/**
 * A fresh database, cloned from a template that holds the migrations as they are now. It lies in the test run's cluster, or, when
 * a file is run by itself, in a cluster that ends with this process. fsync is off: durability is not tested here.
 */
export async function testPostgres(): Promise<TestDatabase> {
  const env = readTestEnvironment()
  const admin = env.pg ?? (await ownCluster())
  const template = await ensureTemplate(admin, env)
  const owner = await createDatabase(admin, { template })
  return {
    owner,
    as: (role) => ({ ...owner, user: role, password: rolePassword(owner, role) }),
    drop: () => dropDatabase(admin, owner.database),
  }
}

/** Builds the template once for all files and processes of a run. Returns its name, which says what is in it. */
async function ensureTemplate(admin: PgConnection, env: TestEnvironment): Promise<string> {
  const name = `template_${fingerprint(env.migrations)}`
  await withClient(admin, async (client) => {
    await client.query('SELECT pg_advisory_lock($1)', [templateLock])
    const known = await client.query('SELECT FROM pg_database WHERE datname = $1', [name])
    if (known.rowCount === 0) await buildTemplate(admin, name, env)
  })
  return name
}

async function buildTemplate(admin: PgConnection, name: string, env: TestEnvironment): Promise<void> {
  const draft = `${name}_draft`
  await dropDatabase(admin, draft)
  const database = await createDatabase(admin, { name: draft })
  await withClient(database, async (client) => {
    await migrate(client, { dir: env.migrations })
    await givePasswords(client, admin)
  })
  // Only a finished one gets the name by which it is found.
  await withClient(admin, (client) =>
    client.query(`ALTER DATABASE ${client.escapeIdentifier(draft)} RENAME TO ${client.escapeIdentifier(name)}`),
  )
}

/** Gives the services' login roles their passwords, which migrations must not know. */
async function givePasswords(client: PgClient, admin: PgConnection): Promise<void> {
  const roles = await client.query<{ rolname: string }>(
    `SELECT rolname FROM pg_roles WHERE rolname LIKE 'ltg\\_%' AND rolname <> 'ltg_owner'`,
  )
  for (const { rolname } of roles.rows) {
    const [role, password] = [client.escapeIdentifier(rolname), client.escapeLiteral(rolePassword(admin, rolname))]
    await client.query(`ALTER ROLE ${role} LOGIN PASSWORD ${password}`)
  }
}

function fingerprint(dir: string): string {
  const hash = createHash('sha256')
  for (const name of readdirSync(dir).sort()) {
    if (name.endsWith('.sql')) hash.update(`${name}\0`).update(readFileSync(join(dir, name)))
  }
  return hash.digest('hex').slice(0, 12)
}

/** The cluster of a file that is run by itself: one for the process, ended by the reaper when the process ends. */
const ownCluster = once(async (): Promise<PgConnection> => {
  const env = readEnvironment()
  const folder = temporaryRunFolder(env)
  const run = await openRun({ dir: folder, folder })
  return (await startPostgres({ env, run, fsync: false })).owner
})

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => {
    made ??= make()
    return made
  }
}
