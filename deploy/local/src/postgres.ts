import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { ownFolder, writePrivateJson } from './folders.ts'
import { packagedPostgres, readableBinaries, unprivileged } from './postgres-binaries.ts'
import { accessRules, clusterConfig } from './postgres-config.ts'
import { type PgConnection, urlOf } from './postgres-connection.ts'
import { lastLines, type Program, startProgram } from './program.ts'
import type { Run } from './run.ts'

export interface PostgresOptions {
  env: LocalEnvironment
  run: Run
  /** Holds data, sockets and the owner's password. A cluster that is there already is started as it is. Default: `pg` in the run's folder. */
  dir?: string
  /** Log file, appended to. Default: `postgres.log` in `dir`. */
  log?: string
  /** Off is about three times faster and loses commits with the machine's power: for tests of what is not durability. Default on. */
  fsync?: boolean
  /** Also listen on this loopback TCP port. Without it there is the Unix socket alone. */
  port?: number
  /** Further lines of postgresql.conf; they win. */
  settings?: Record<string, string>
  /** Folder with `bin`, `lib`, `share`. Default: the npm package of this platform. */
  binaries?: string
}

/** A running cluster. Everybody connects with a password; `owner` is its superuser. */
export interface Postgres {
  readonly owner: PgConnection
  readonly ownerUrl: string
  readonly socketDir: string
  readonly port: number
  readonly log: string
  readonly pid: number
  /** Orderly: open transactions are rolled back, what is committed is on disk. */
  stop(): Promise<void>
  /** The machine's power fails. */
  kill9(): Promise<void>
  /** Orderly stop (nothing when it is down already), then start on the same data, sockets and port. */
  restart(): Promise<void>
}

/** Longest path of a Unix socket, in bytes, with the byte that ends it. */
const longestSocket = process.platform === 'linux' ? 107 : 103
const defaultPort = 5432
const startMs = 30_000
const serverEnv = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }
const stopMs = 10_000

/**
 * Starts an embedded PostgreSQL, making the cluster first where there is none: UTF-8, C locale, checksums, SCRAM passwords for
 * everybody. As root it runs as nobody.
 * @throws {LocalError} `postgres_binaries_missing`, `socket_path_too_long`, `postgres_start_failed` (with the log's last lines)
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { env, run, fsync = true, dir = join(run.folder, 'pg'), log = join(dir, 'postgres.log') } = options
  const port = options.port ?? defaultPort
  const socketDir = join(dir, 'socket')
  requireShort(join(socketDir, `.s.PGSQL.${port}`))
  const binaries = readableBinaries(options.binaries ?? packagedPostgres(), env)
  const cluster: Cluster = { dir, data: join(dir, 'data'), socketDir, binaries, asRoot: env.uid === 0 }

  ownFolder(dir, cluster.asRoot ? 0o711 : 0o700)
  const password = await ensureCluster(cluster, fsync, run.mark)
  const config = { socketDir, port, tcp: options.port !== undefined, fsync, extra: options.settings ?? {} }
  writeOwned(cluster, 'postgresql.conf', clusterConfig(config))
  writeOwned(cluster, 'pg_hba.conf', accessRules(config.tcp))

  const owner: PgConnection = { host: socketDir, port, user: 'postgres', password, database: 'postgres' }
  const start = () => boot({ cluster, env, run, log, owner })
  let server = await start()
  return {
    owner,
    ownerUrl: urlOf(owner),
    socketDir,
    port,
    log,
    get pid() {
      return server.pid
    },
    async stop() {
      await server.stop()
    },
    async kill9() {
      await server.kill()
    },
    async restart() {
      await server.stop()
      server = await start()
    },
  }
}

interface Cluster {
  dir: string
  data: string
  socketDir: string
  binaries: string
  asRoot: boolean
}

/** Makes the cluster where there is none yet. Returns its superuser's password. */
async function ensureCluster(cluster: Cluster, fsync: boolean, mark: Record<string, string>): Promise<string> {
  const { dir, data, socketDir, binaries, asRoot } = cluster
  const secret = join(dir, 'owner.json')
  if (existsSync(join(data, 'PG_VERSION')) && existsSync(secret)) {
    return (JSON.parse(readFileSync(secret, 'utf8')) as { password: string }).password
  }
  // What an initdb that was interrupted left is worth nothing.
  rmSync(data, { recursive: true, force: true })
  for (const folder of [data, socketDir]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (asRoot) chownSync(folder, unprivileged.uid, unprivileged.gid)
  }
  const password = randomBytes(24).toString('base64url')
  const passwordFile = join(socketDir, 'initdb-password')
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (asRoot) chownSync(passwordFile, unprivileged.uid, unprivileged.gid)
  try {
    const settings = [
      '--username=postgres',
      '--auth=scram-sha-256',
      '--no-locale',
      '--encoding=UTF8',
      ...(fsync ? [] : ['--no-sync']),
    ]
    await promisify(execFile)(
      join(binaries, 'bin', 'initdb'),
      [...settings, `--pwfile=${passwordFile}`, `--pgdata=${data}`],
      // Marked, so that it ends with the run even when this process dies meanwhile.
      { cwd: socketDir, env: { ...serverEnv, ...mark }, ...(asRoot ? unprivileged : {}) },
    )
  } catch (cause) {
    const stderr = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : ''
    throw new LocalError('postgres_start_failed', `initdb failed: ${stderr || String(cause)}`, { cause })
  } finally {
    rmSync(passwordFile, { force: true })
  }
  writePrivateJson(secret, { password })
  return password
}

function writeOwned(cluster: Cluster, name: string, text: string): void {
  const path = join(cluster.data, name)
  writeFileSync(path, text, { mode: 0o600 })
  if (cluster.asRoot) chownSync(path, unprivileged.uid, unprivileged.gid)
}

interface Boot {
  cluster: Cluster
  env: LocalEnvironment
  run: Run
  log: string
  owner: PgConnection
}

/** Starts the server on its data and waits until it lets the owner in. */
async function boot({ cluster, run, log, owner }: Boot): Promise<Program> {
  for (const end = Date.now() + startMs; ; ) {
    const server = startProgram({
      run,
      name: 'postgres',
      command: join(cluster.binaries, 'bin', 'postgres'),
      args: ['-D', cluster.data],
      env: serverEnv,
      cwd: cluster.socketDir,
      log,
      // Fast shutdown; SIGTERM would wait for every client to leave by itself.
      stopSignal: 'SIGINT',
      stopMs,
      ...(cluster.asRoot ? unprivileged : {}),
    })
    if (await answers(server, owner, end)) return server
    // Processes of a killed server hold its memory for a moment yet: once more. Anything else is told.
    const isInUse = /still in use|lock file .* already exists/.test(lastLines(log, 3))
    if (!isInUse || Date.now() > end) {
      await server.stop()
      throw new LocalError('postgres_start_failed', `PostgreSQL did not start; ${log} ends with:\n${lastLines(log)}`)
    }
    await new Promise((done) => setTimeout(done, 100))
  }
}

/** Polls until the owner is let in; false when the server ended or time is up. */
async function answers(server: Program, owner: PgConnection, end: number): Promise<boolean> {
  while (server.isRunning() && Date.now() < end) {
    const client = new pg.Client({ ...owner, connectionTimeoutMillis: 2000 })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('SELECT 1')
      return true
    } catch {
      await new Promise((done) => setTimeout(done, 15))
    } finally {
      await client.end().catch(() => {})
    }
  }
  return false
}

function requireShort(path: string): void {
  if (Buffer.byteLength(path) > longestSocket) {
    throw new LocalError(
      'socket_path_too_long',
      `the socket's path ${path} is over ${longestSocket} bytes; choose a shorter folder`,
    )
  }
}
