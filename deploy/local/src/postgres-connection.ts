import { createHmac, randomBytes } from 'node:crypto'
import pg from 'pg'

/** One connection, as `pg` makes it. */
export type PgClient = pg.Client

/** How to reach a database, as `pg` takes it. `host` is the folder of the Unix socket, or a host name. */
export interface PgConnection {
  host: string
  port: number
  user: string
  password: string
  database: string
}

/** The same as a URL, which `pg` and most tools accept. */
export function urlOf(connection: PgConnection): string {
  const { host, port, user, password, database } = connection
  const [name, secret] = [encodeURIComponent(user), encodeURIComponent(password)]
  return `postgres://${name}:${secret}@/${encodeURIComponent(database)}?host=${encodeURIComponent(host)}&port=${port}`
}

/** Runs something with one connection of its own, and closes it. */
export async function withClient<T>(connection: PgConnection, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(connection)
  // A server that is killed breaks idle connections; whoever queries next gets the error.
  client.on('error', () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end().catch(() => {})
  }
}

/** Name (made up when left out) and template of a new database. */
export interface NewDatabase {
  name?: string
  /** Database to clone; nobody may be connected to it. Default: an empty one. */
  template?: string
}

/** Makes a database and returns how its owner reaches it. `admin` connects to any database of the cluster as superuser. */
export async function createDatabase(admin: PgConnection, wanted: NewDatabase = {}): Promise<PgConnection> {
  const name = wanted.name ?? `t_${randomBytes(6).toString('hex')}`
  const template = wanted.template ?? 'template0'
  await withClient(admin, (client) =>
    client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${pg.escapeIdentifier(template)}`),
  )
  return { ...admin, database: name }
}

/** Drops a database, whoever is connected to it. No error when it is gone already. */
export async function dropDatabase(admin: PgConnection, name: string): Promise<void> {
  await withClient(admin, (client) => client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`))
}

/**
 * The password of a login role in an embedded cluster: made from the owner's, so that every process that may be owner knows it and
 * no two stacks in one cluster disagree. It tells nothing of the owner's or another role's.
 */
export function rolePassword(owner: PgConnection, role: string): string {
  return createHmac('sha256', owner.password).update(`role:${role}`).digest('base64url')
}
