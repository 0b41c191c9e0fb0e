import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  connectDaemon,
  createSettings,
  enrolledOf,
  type MethodName,
  type MethodParams,
  openStore,
  type Settings,
} from '@lenserfight/daemon/client'
import type { Stack } from '@lenserfight/local/stack'
import { logOutput } from '@lenserfight/testkit'

export const lfFile = fileURLToPath(new URL('../../edge/cli/bin/lf', import.meta.url))

export interface Ran {
  readonly code: number | string | null
  readonly stdout: string
  readonly stderr: string
}

/** Whether standard output is what `lf` says: not its command's, nor a secret that was asked for. */
const isItsOwn = (words: readonly string[]): boolean =>
  words[0] !== 'run' && words[0] !== 'api-keys' && !words.includes('--nonce')

/** Short waits, so that a test of minutes takes seconds. */
const timing = {
  heartbeat_ms: 1_000,
  pending_poll_ms: 300,
  status_poll_ms: 2_000,
  permit_renew_ms: 2_000,
  run_left_ms: 5_000,
  resend_floor_ms: 1_000,
  resend_ceiling_ms: 3_000,
  reconnect: { floor_ms: 50, first_ceiling_ms: 200, ceiling_ms: 500 },
}

/** A machine of somebody's: `lf` and its daemon as real processes, with a home of their own. */
export class Machine {
  readonly home: string
  readonly state: string
  readonly #stack: Stack
  readonly #name: string
  readonly #variables: NodeJS.ProcessEnv
  #daemon: ChildProcess | undefined
  /** What the daemons of this machine logged. */
  log = ''

  /** @param variables what its environment has besides */
  constructor(stack: Stack, name: string, variables: NodeJS.ProcessEnv = {}) {
    this.#stack = stack
    this.#variables = variables
    this.#name = name
    this.home = join(stack.dir, `machine-${name}`)
    this.state = join(this.home, 'lf', 'gateway')
    mkdirSync(this.state, { recursive: true, mode: 0o700 })
    writeFileSync(join(this.state, 'daemon.json'), JSON.stringify(timing), { mode: 0o600 })
  }

  get env(): NodeJS.ProcessEnv {
    const { PATH, NODE_COMPILE_CACHE } = process.env
    const home = { LENSERFIGHT_HOME: join(this.home, 'lf') }
    // Many daemons run on the machine of a test: each takes a free port.
    return {
      PATH,
      ...(NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE }),
      ...home,
      LF_GATEWAY_KEY_FILE_FALLBACK: '1',
      LF_GATEWAY_PORT: '0',
      ...this.#variables,
    }
  }

  /** Runs `lf`; the key fallback's warning is left out of what it said. */
  lf(words: readonly string[], input = ''): Promise<Ran> {
    return this.#execute(lfFile, words, input)
  }

  /** Runs `lf` on a terminal at which somebody types; what it says is in `stdout`. */
  lfOnTerminal(words: readonly string[], typed: string): Promise<Ran> {
    return this.#execute('script', ['-qec', [lfFile, ...words].join(' '), '/dev/null'], typed)
  }

  #execute(file: string, words: readonly string[], input: string): Promise<Ran> {
    return new Promise((resolve) => {
      const options = { env: this.env, cwd: this.home, timeout: 120_000 }
      const child = execFile(file, words, options, (error, stdout, stderr) => {
        const told = stderr.split('\n').filter((line) => !line.startsWith('WARNING:'))
        logOutput(`lf-${this.#name}`, isItsOwn(words) ? stdout + stderr : stderr, this.#stack.logDir)
        resolve({ code: error === null ? 0 : (error.code ?? null), stdout, stderr: told.join('\n') })
      })
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  }

  /** Starts `lf`, for who looks at what it says while it runs. */
  lfStarted(words: readonly string[]): { child: ChildProcess; said: () => string; ended: Promise<Ran> } {
    const child = spawn(lfFile, words, { env: this.env, cwd: this.home, stdio: ['ignore', 'pipe', 'pipe'] })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const ended = new Promise<Ran>((resolve) => {
      child.once('close', (code, signal) => {
        logOutput(`lf-${this.#name}`, stderr, this.#stack.logDir)
        resolve({ code: code ?? signal, stdout, stderr })
      })
    })
    return { child, said: () => stderr, ended }
  }

  /** Runs `lf` and kills it, if it still runs by then. */
  lfKilled(words: readonly string[], afterMs: number): Promise<void> {
    return new Promise((resolve) => {
      const child = spawn(lfFile, words, { env: this.env, cwd: this.home, stdio: 'ignore' })
      const timer = setTimeout(() => child.kill('SIGKILL'), afterMs)
      child.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** Runs `lf … --json`; throws unless it succeeds. */
  async ask<T = Record<string, unknown>>(...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.lf([...words, '--json'])
    if (code !== 0) throw new Error(`lf ${words.join(' ')} exited ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  login(as: string): Promise<Record<string, unknown>> {
    return this.ask('login', '--dev', '--as', as, '--stack', join(this.#stack.dir, 'stack.json'))
  }

  /** Starts the daemon and waits until it answers. */
  async serve(): Promise<void> {
    const child = spawn(lfFile, ['gateway', 'serve'], {
      env: this.env,
      cwd: this.home,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.log += text
        // As it comes: a line may arrive in parts.
        appendFileSync(join(this.#stack.logDir, `lf-gatewayd-${this.#name}.log`), text)
      })
    }
    this.#daemon = child
    const answers = (): Promise<boolean> =>
      this.status().then(
        () => true,
        () => false,
      )
    await until(answers, 'an answer of the daemon')
  }

  /** Asks the daemon as `lf` does, without a process of its own for each look. */
  async askDaemon<N extends MethodName, R = Record<string, unknown>>(method: N, params: MethodParams<N>): Promise<R> {
    const client = await connectDaemon(join(this.state, 'daemon.sock'))
    try {
      return (await client.request(method, params)) as R
    } finally {
      client.close()
    }
  }

  /** Ends the daemon with a signal and waits for its end. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const daemon = this.#daemon
    this.#daemon = undefined
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return daemon?.exitCode ?? null
    const gone = new Promise<number | null>((resolve) => daemon.once('close', resolve))
    daemon.kill(signal)
    return gone
  }

  /** Gives the daemon a signal that does not end it. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#daemon?.kill(signal)
  }

  /** The kernel refuses the daemon to make any file longer, as a full disk or a quota would, until it may again (Linux). */
  fillDisk(isFull: boolean): void {
    const limit = `--fsize=${isFull ? '1' : 'unlimited'}:unlimited`
    execFileSync('prlimit', ['--pid', String(this.#daemon?.pid), limit])
  }

  /** What `lf gateway status --json` shows of the daemon. */
  status(): Promise<{
    connection: string
    code: string | null
    trust_level: string | null
    last_heartbeat_at: number | null
    outbox: { open: number; unwanted: number; in_flight: number }
  }> {
    return this.askDaemon('status', {})
  }

  /** Waits until the gateway has taken the daemon's answer to the registration's challenge: from then on it can be approved. */
  async untilChallengeAnswered(): Promise<void> {
    const identity = withSettings(this, (settings) => enrolledOf(settings.get('identity')))
    if (identity === undefined) throw new Error('the machine is not enrolled')
    const wait = { op_id: identity.challenge_op, timeout_ms: 1000 }
    // Unknown to the daemon before it has connected.
    const isDone = (): Promise<boolean> =>
      this.askDaemon('operation.wait', wait).then(
        ({ outcome }) => outcome !== null,
        () => false,
      )
    await until(isDone, 'the answer to the challenge')
  }

  /** Signs in, registers, starts the daemon, approves, and waits for a heartbeat: a machine that may run. */
  async enrol(as: string, name: string): Promise<string> {
    await this.login(as)
    const { device_id } = await this.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', name)
    await this.serve()
    await this.untilChallengeAnswered()
    await until(async () => (await this.lf(['gateway', 'approve-device', device_id, '--yes'])).code === 0)
    await until(async () => (await this.status()).last_heartbeat_at !== null)
    return device_id
  }
}

/** Reads or changes what a machine keeps, as another program of its owner's would. */
export const withSettings = <T>(machine: Machine, act: (settings: Settings) => T): T => {
  const store = openStore(join(machine.state, 'state.db'))
  try {
    return act(createSettings(store))
  } finally {
    store.close()
  }
}

/** Waits until it holds, for at most as long as a machine takes on which everything is tested at once. */
export const until = async (holds: () => Promise<boolean>, what = 'what was waited for'): Promise<void> => {
  for (const end = Date.now() + 90_000; !(await holds()); ) {
    if (Date.now() > end) throw new Error(`${what} did not come about`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
