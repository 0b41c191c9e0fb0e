import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import type { LocalEnvironment } from '../env.ts'

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Somebody at a terminal, with a home of their own: runs `lf` as a real process. */
export interface Person {
  /** Runs `lf ARGS`; rejects only where it cannot be started or takes too long. */
  lf(args: readonly string[], options?: { stdin?: string }): Promise<Ran>
  /** Runs `lf ARGS --json` and reads what it prints; throws with its words unless it exits 0. */
  ask<T>(...args: string[]): Promise<T>
  /** Starts `lf ARGS` and leaves it running, until `stopAll`. */
  start(args: readonly string[]): void
  /** Ends what is left running, orderly: the started, and what somebody who stops the demo interrupted. */
  stopAll(): Promise<void>
}

const deadlineMs = 30_000

export function createPerson(options: { env: LocalEnvironment; home: string }): Person {
  const { env, home } = options
  const main = join(env.repository, 'edge/cli/src/main.mjs')
  const childEnv = {
    ...env.childEnv,
    HOME: home,
    LF_GATEWAY_HOME: join(home, 'gateway'),
    LF_GATEWAY_KEY_FILE_FALLBACK: '1',
    LF_GATEWAY_PORT: '0',
    NO_COLOR: '1',
  }
  const running = new Set<ChildProcess>()
  const spawnLf = (args: readonly string[]) => {
    const child = spawn(process.execPath, [main, ...args], {
      env: childEnv,
      cwd: home,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    running.add(child)
    child.once('close', () => running.delete(child))
    return child
  }

  const lf: Person['lf'] = async (args, { stdin = '' } = {}) => {
    const child = spawnLf(args)
    const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs)
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
    const [stdout, stderr, code] = await Promise.all([
      child.stdout.setEncoding('utf8').toArray(),
      child.stderr.setEncoding('utf8').toArray(),
      new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve)),
    ])
    clearTimeout(timer)
    return { code, stdout: stdout.join(''), stderr: stderr.join('') }
  }
  return {
    lf,
    async ask<T>(...args: string[]) {
      const { code, stdout, stderr } = await lf([...args, '--json'])
      if (code !== 0) throw new Error(`lf ${args.join(' ')} exited ${code}: ${stderr.trim() || stdout.trim()}`)
      return JSON.parse(stdout) as T
    },
    start(args) {
      const child = spawnLf(args)
      child.stdout.resume()
      child.stderr.resume()
    },
    async stopAll() {
      await Promise.all(
        [...running].map((child) => {
          const gone = new Promise((resolve) => child.once('close', resolve))
          if (child.exitCode === null && child.kill('SIGTERM')) return gone
          return undefined
        }),
      )
    },
  }
}
