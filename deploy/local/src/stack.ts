import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brokerConfig } from '@lenserfight/bus'
import { migrate } from '@lenserfight/db'
import { type Descriptor, type ServiceName, serviceNames } from '@lenserfight/schemas'
import { createAccount } from '@nats-io/nkeys'
import { type LocalEnvironment, readEnvironment } from './env.ts'
import { ownFolder, runFolderOf, writePrivateJson } from './folders.ts'
import { type GatewayKeys, makeGatewayKeys } from './gateway-keys.ts'
import { type Nats, startNats } from './nats.ts'
import { ensureNatsServer } from './nats-server.ts'
import { type Postgres, startPostgres } from './postgres.ts'
import { createDatabase, type PgConnection, rolePassword, urlOf, withClient } from './postgres-connection.ts'
import { openRun, type Run } from './run.ts'
import { createSupervisor, type Supervisor, type Worker } from './supervisor.ts'
import {
  type BusUser,
  healthFileOf,
  makeBusUser,
  roleOf,
  type WorkerWorld,
  writeSecret,
  writeWorkerConfig,
} from './worker-files.ts'

export interface StackOptions {
  /** State folder, 0700: descriptor, stack.json, configurations, secrets. Default: `.local` in the repository. */
  dir?: string
  /** Scratch with a short path, removed at the end: data, sockets, store. Default: one that belongs to `dir`. */
  folder?: string
  env?: LocalEnvironment
  /** Processes of each service; 1 where absent, 0 for none. */
  replicas?: Partial<Record<ServiceName, number>>
  /** false: the test harness without auth callout, in which one static user may say anything at the edge. */
  callout?: boolean
  /** Off is faster and loses commits with the machine's power. Default on. */
  fsync?: boolean
  /** The broker's binary. Default: what is found first. */
  nats?: { path: string }
  logDir?: string
  logLevel?: string
  /** Further members of a service's configuration. */
  extra?: Partial<Record<ServiceName, Record<string, unknown>>>
  /** Told of each step, for people who wait. */
  onStep?: (step: string) => void
}

/** What `.local/stack.json` says. */
export interface StackDescription {
  nats: { url: string; pid: number }
  pg: { owner: string; pid: number; roles: Record<string, string> }
  services: Record<string, { pid: number | undefined; ready: boolean }[]>
  issuer: { url: string; client_secret: string }
  gateway: { descriptor: string; gateway_id: string; logs: string }
}

/** A running stack: broker, database, issuer and every worker, each a process of its own. */
export interface Stack {
  readonly dir: string
  readonly logDir: string
  readonly descriptor: Descriptor
  readonly descriptorFile: string
  readonly issuer: { readonly url: string; readonly clientSecret: string }
  readonly nats: Nats
  readonly postgres: Postgres
  /** As superuser of the gateway's database. */
  readonly owner: PgConnection
  readonly gatewayKeys: GatewayKeys
  /** Credentials of a worker's bus user, for tests of what they may not do. */
  busUser(service: ServiceName): BusUser
  /** The broker's system user: broker-auth's, for cutting connections. */
  readonly systemUser: BusUser
  /** The static user of the edge, where the stack runs without callout; nobody the broker knows otherwise. */
  readonly edgeUser: BusUser
  /** As the database role of a service. */
  roleOf(service: ServiceName): PgConnection
  /** The replicas of a service, the first at 0. */
  workers(service: ServiceName): readonly Worker[]
  describe(): StackDescription
  /** Resolves when every worker is ready. */
  whenReady(timeoutMs?: number): Promise<void>
  stop(): Promise<void>
}

const database = 'lenserfight'
/** Batches under way live for some 100 ms: a small nursery would have the collector copy them again and again. */
const nodeFlags: Partial<Record<ServiceName, readonly string[]>> = { verifier: ['--max-semi-space-size=64'] }

/**
 * Starts the whole gateway on this machine, from an empty state. Everything listens on loopback or a Unix socket.
 * Nothing outlives this process, however it ends.
 * @throws {LocalError} what could not be started, with its log's last lines
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const { env = readEnvironment(), onStep = () => {} } = options
  const dir = options.dir ?? join(env.repository, '.local')
  const run = await openRun({ dir, folder: options.folder ?? runFolderOf(dir, env) })
  try {
    return await start({ ...options, env, onStep, dir, run })
  } catch (error) {
    await run.close()
    throw error
  }
}

type Started = StackOptions & { env: LocalEnvironment; onStep: (step: string) => void; dir: string; run: Run }

async function start(options: Started): Promise<Stack> {
  const { env, run, dir, onStep } = options
  const logDir = ownFolder(options.logDir ?? join(dir, 'logs'))
  const users = new Map(serviceNames.map((name) => [name, makeBusUser()]))
  const callout = createAccount()
  const [edgeUser, systemUser] = [makeBusUser(), makeBusUser()]

  const descriptionFile = join(dir, 'stack.json')
  rmSync(descriptionFile, { force: true })
  // Nothing to say before everything is there.
  let sayChange = () => {}
  const supervisor = createSupervisor({ run, logDir, onChange: () => sayChange() })

  onStep('PostgreSQL, nats-server and the issuer')
  const workers = Object.fromEntries([...users].map(([name, user]) => [name, user.publicKey]))
  const [{ postgres, owner }, nats, issuer] = await all([
    startDatabase(options, logDir),
    startNats({
      env,
      run,
      log: join(logDir, 'nats.log'),
      nats: options.nats ?? (await ensureNatsServer({ env, want: 'default' })),
      configText: brokerConfig({
        workers: workers as Record<ServiceName, string>,
        system: systemUser.publicKey,
        calloutIssuer: callout.getPublicKey(),
        callout: options.callout ?? true,
        edgeUsers: options.callout === false ? [edgeUser.publicKey] : [],
      }),
    }),
    startIssuer({ dir, env, supervisor }),
  ])
  const gatewayId = randomUUID()
  const keys = makeGatewayKeys(gatewayId)
  const descriptor: Descriptor = { url: nats.url, gateway_id: gatewayId, root_key: keys.rootKey }
  const descriptorFile = join(dir, 'gateway.json')
  writePrivateJson(descriptorFile, descriptor)
  const keysFile = join(dir, 'keys.json')
  writeFileSync(keysFile, keys.list, { mode: 0o600 })
  const extra = {
    ...options.extra,
    'broker-auth': {
      system_seed_file: writeSecret(dir, 'system.nkey', systemUser.seed),
      callout_seed_file: writeSecret(dir, 'callout.seed', new TextDecoder().decode(callout.getSeed())),
      ...options.extra?.['broker-auth'],
    },
  }
  const world: WorkerWorld = {
    ...{ dir, gatewayId, natsUrl: nats.url, owner, keys, keysFile, issuer, extra },
    logLevel: options.logLevel ?? 'info',
  }

  const replicas = new Map<ServiceName, Worker[]>()
  const describe = (): StackDescription => ({
    nats: { url: nats.url, pid: nats.pid },
    pg: {
      owner: urlOf(owner),
      pid: postgres.pid,
      roles: Object.fromEntries(Object.values(roleOf).map((role) => [role, urlOf(asRole(owner, role))])),
    },
    services: Object.fromEntries(
      [...replicas].map(([name, list]) => [name, list.map(({ pid, state }) => ({ pid, ready: state === 'ready' }))]),
    ),
    issuer: { url: issuer.url, client_secret: issuer.clientSecret },
    gateway: { descriptor: descriptorFile, gateway_id: gatewayId, logs: logDir },
  })

  onStep(serviceNames.map((service) => named(service, options.replicas?.[service])).join(', '))
  // All at once: each waits for what it needs of the others, as after a power failure.
  const starts = serviceNames.map((service) => {
    const started = Array.from({ length: options.replicas?.[service] ?? 1 }, (_, index) => {
      const name = index === 0 ? service : `${service}-${index + 1}`
      const config = writeWorkerConfig(world, service, name, users.get(service) as BusUser)
      const main = join(env.repository, 'services', service, 'src/main.ts')
      return supervisor.start({
        name,
        command: process.execPath,
        args: [...(nodeFlags[service] ?? []), main, '--config', config],
        env: env.childEnv,
        cwd: dir,
        ready: () => isReady(healthFileOf(dir, name)),
        readyMs: 60_000,
      })
    })
    return Promise.all(started).then((list) => [service, list] as const)
  })
  for (const [service, list] of await all(starts)) replicas.set(service, list)
  sayChange = () => writePrivateJson(descriptionFile, describe())
  sayChange()

  return {
    dir,
    logDir,
    descriptor,
    descriptorFile,
    issuer,
    nats,
    postgres,
    owner,
    gatewayKeys: keys,
    edgeUser,
    systemUser,
    busUser: (service) => users.get(service) as BusUser,
    roleOf: (service) => asRole(owner, roleOf[service] ?? service),
    workers: (service) => replicas.get(service) ?? [],
    describe,
    async whenReady(timeoutMs) {
      await Promise.all([...replicas.values()].flat().map((worker) => worker.whenReady(timeoutMs)))
      // A worker may be up and hold its messages: readiness is asked of it, not of its process.
      for (const worker of [...replicas.values()].flat()) await waitReady(dir, worker.name, timeoutMs)
    },
    async stop() {
      sayChange = () => {}
      rmSync(descriptionFile, { force: true })
      await supervisor.stopAll()
      await nats.stop()
      await postgres.stop()
      await run.close()
    },
  }
}

const asRole = (owner: PgConnection, role: string): PgConnection => ({
  ...owner,
  user: role,
  password: rolePassword(owner, role),
})

/** How a step names the replicas of a service. */
const named = (service: ServiceName, count = 1): string => (count === 1 ? service : `${service} × ${count}`)

/** Waits until each came to its end, so that a failure leaves nothing behind that still starts, then throws the first. */
async function all<const T extends readonly Promise<unknown>[]>(starts: T): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const failed = (await Promise.allSettled(starts)).find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return (await Promise.all(starts)) as { [K in keyof T]: Awaited<T[K]> }
}

async function startDatabase({ env, run, fsync }: Started, logDir: string) {
  const log = join(logDir, 'postgres.log')
  const postgres = await startPostgres({ env, run, log, ...(fsync === undefined ? {} : { fsync }) })
  return { postgres, owner: await prepareDatabase(postgres.owner, env) }
}

/** Makes the gateway's database, applies every migration and gives the services' roles their passwords. */
async function prepareDatabase(admin: PgConnection, env: LocalEnvironment): Promise<PgConnection> {
  const owner = await createDatabase(admin, { name: database })
  await withClient(owner, async (client) => {
    await migrate(client, { dir: join(env.repository, 'migrations') })
    for (const role of Object.values(roleOf)) {
      const password = client.escapeLiteral(rolePassword(owner, role))
      await client.query(`ALTER ROLE ${client.escapeIdentifier(role)} LOGIN PASSWORD ${password}`)
    }
  })
  return owner
}

async function startIssuer(options: { dir: string; env: LocalEnvironment; supervisor: Supervisor }) {
  const { dir, env, supervisor } = options
  const clientSecret = randomBytes(24).toString('base64url')
  const health = join(dir, 'issuer-health.json')
  const config = join(dir, 'issuer.json')
  writePrivateJson(config, { secret_file: writeSecret(dir, 'issuer', clientSecret), health_file: health })
  await supervisor.start({
    name: 'issuer',
    command: process.execPath,
    args: [join(env.repository, 'deploy/local/src/issuer/main.ts'), '--config', config],
    env: env.childEnv,
    cwd: dir,
    ready: () => isReady(health),
  })
  const { port } = JSON.parse(readFileSync(health, 'utf8')) as { port: number }
  return { url: `http://127.0.0.1:${port}`, clientSecret }
}

/** Asks the process that wrote the file whether it is ready; a file of an earlier life answers to nobody. */
async function isReady(healthFile: string): Promise<boolean> {
  const { port } = JSON.parse(readFileSync(healthFile, 'utf8')) as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1000) })
  await response.arrayBuffer()
  return response.status === 200
}

async function waitReady(dir: string, name: string, timeoutMs = 30_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!(await isReady(healthFileOf(dir, name)).catch(() => false))) {
    if (Date.now() > end) throw new Error(`${name} did not become ready in ${timeoutMs} ms`)
    await new Promise((done) => setTimeout(done, 50))
  }
}
