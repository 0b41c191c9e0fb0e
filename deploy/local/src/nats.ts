import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { basename, dirname, join } from 'node:path'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { ownFolder } from './folders.ts'
import { lastLines, type Program, startProgram } from './program.ts'
import type { Run } from './run.ts'

export interface NatsOptions {
  env: LocalEnvironment
  run: Run
  /** The binary, from `ensureNatsServer`. */
  nats: { path: string }
  /** The server's configuration: accounts, callout, limits. Address, port and store are given beside it and win. */
  configText: string
  /** Holds configuration, store and log. Default: `nats` in the run's folder. */
  dir?: string
  /**
   * The server's own log file, appended to and turned over as the configuration says; what it says past that (a crash) goes
   * to `<name>-output.log` beside it. Default: `nats.log` in `dir`.
   */
  log?: string
  /** Default: one that the server finds free itself. */
  port?: number
  /** Without JetStream there is no store. Default: with it. */
  jetstream?: boolean
}

/** A running broker on the loopback address. */
export interface Nats {
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly storeDir: string
  readonly log: string
  stop(): Promise<void>
  /** The machine's power fails, but for what the system had not yet written. */
  kill9(): Promise<void>
  /** Orderly stop (nothing when it is down already), then start on the same port, with its store or with an empty one. */
  restart(how?: { emptyStore?: boolean; configText?: string }): Promise<void>
  /** SIGSTOP and SIGCONT: a broker that holds its connections and says nothing. */
  pause(): void
  resume(): void
}

const startMs = 15_000
const pollMs = 15

/**
 * Starts a nats-server on 127.0.0.1 and waits until it takes connections.
 * @throws {LocalError} `nats_start_failed` with the log's last lines
 */
export async function startNats(options: NatsOptions): Promise<Nats> {
  const { run, dir = join(run.folder, 'nats'), log = join(dir, 'nats.log') } = options
  ownFolder(dir)
  const output = join(dirname(log), `${basename(log, '.log')}-output.log`)
  const files = { dir, log, output, config: join(dir, 'nats.conf'), storeDir: join(dir, 'store') }
  writeFileSync(files.config, options.configText, { mode: 0o600 })
  let { server, port } = await boot(options, files, options.port ?? -1)
  return {
    get url() {
      return `nats://127.0.0.1:${port}`
    },
    get port() {
      return port
    },
    get pid() {
      return server.pid
    },
    storeDir: files.storeDir,
    log,
    async stop() {
      await server.stop()
    },
    async kill9() {
      await server.kill()
    },
    async restart(how = {}) {
      await server.stop()
      if (how.emptyStore) rmSync(files.storeDir, { recursive: true, force: true })
      if (how.configText !== undefined)
        writeFileSync(files.config, how.configText, { mode: 0o600 })
        // The same port, so that clients find it again.
      ;({ server, port } = await boot(options, files, port))
    },
    pause: () => server.send('SIGSTOP'),
    resume: () => server.send('SIGCONT'),
  }
}

interface Files {
  dir: string
  log: string
  output: string
  config: string
  storeDir: string
}

async function boot(options: NatsOptions, files: Files, wanted: number): Promise<{ server: Program; port: number }> {
  const { env, run, nats, jetstream = true } = options
  const end = Date.now() + startMs
  // Nobody else's to read, as every log here.
  writeFileSync(files.log, '', { flag: 'a', mode: 0o600 })
  for (;;) {
    const server = startProgram({
      run,
      name: 'nats',
      command: nats.path,
      args: [
        ...['--config', files.config, '--addr', '127.0.0.1', '--port', String(wanted), '--ports_file_dir', files.dir],
        ...['--log', files.log],
        ...(jetstream ? ['--jetstream', '--store_dir', files.storeDir] : []),
      ],
      env: env.childEnv,
      log: files.output,
    })
    const portsFile = join(files.dir, `${basename(nats.path)}_${server.pid}.ports`)
    const port = await listening(server, portsFile, end)
    if (port !== undefined) return { server, port }
    await server.stop()
    // The port that clients know may be held for a moment by the server that was just killed.
    if (!/address already in use/.test(lastLines(files.log, 2)) || Date.now() > end) {
      throw new LocalError(
        'nats_start_failed',
        `nats-server did not start; ${files.log} ends with:\n${lastLines(files.log)}\n${lastLines(files.output)}`,
      )
    }
    await new Promise((done) => setTimeout(done, 100))
  }
}

/** The port that the server states, once it takes connections there; undefined when it ended or time is up. */
async function listening(server: Program, portsFile: string, end: number): Promise<number | undefined> {
  while (server.isRunning() && Date.now() < end) {
    const port = statedPort(portsFile)
    if (port !== undefined && (await takesConnections(port))) return port
    await new Promise((done) => setTimeout(done, pollMs))
  }
  return undefined
}

/** @param path the file in which the server writes what it listens on, once it does */
function statedPort(path: string): number | undefined {
  if (!existsSync(path)) return undefined
  try {
    const { nats } = JSON.parse(readFileSync(path, 'utf8')) as { nats: string[] }
    return Number(new URL(nats[0] as string).port)
  } catch {
    // Half written yet.
    return undefined
  }
}

/** The port is open before the server is ready: ready is when it greets. */
function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    const settle = (ready: boolean) => {
      socket.destroy()
      resolve(ready)
    }
    socket.setTimeout(1000, () => settle(false))
    socket.once('error', () => settle(false))
    socket.once('data', (greeting) => settle(greeting.toString('utf8', 0, 4) === 'INFO'))
  })
}
