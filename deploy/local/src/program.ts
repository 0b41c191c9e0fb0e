import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { signal } from './cleanup.mjs'
import { LocalError } from './errors.ts'
import type { Run } from './run.ts'

export interface ProgramOptions {
  run: Run
  name: string
  command: string
  args?: string[]
  /** The whole environment; the run's mark is added, nothing of this process's own. */
  env: Record<string, string>
  cwd?: string
  /** Gets standard output and error, appended. */
  log: string
  stopSignal?: NodeJS.Signals
  /** Time between the stop signal and SIGKILL, in milliseconds. */
  stopMs?: number
  uid?: number
  gid?: number
}

/** How a process ended. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** One life of one process, written down in its run. */
export interface Program {
  readonly pid: number
  /** Resolves when it ended. */
  readonly exited: Promise<Exit>
  isRunning(): boolean
  /** Asks it to stop, kills it when the deadline is over; resolves when it is gone. */
  stop(): Promise<Exit>
  /** Kills it at once; resolves when it is gone. */
  kill(): Promise<Exit>
  /** Sends any signal (SIGSTOP, SIGCONT, …). */
  send(name: NodeJS.Signals): void
}

const defaultStopMs = 10_000

/**
 * Starts a process in a group of its own, so that a terminal's Ctrl-C reaches us alone and we stop things in order. It never
 * keeps this process alive; it does not outlive it either, because the run knows it.
 * @throws {LocalError} `process_start_failed`
 */
export function startProgram(options: ProgramOptions): Program {
  const { run, name, command, args = [], stopSignal = 'SIGTERM', stopMs = defaultStopMs } = options
  mkdirSync(dirname(options.log), { recursive: true })
  const log = openSync(options.log, 'a', 0o600)
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...options.env, ...run.mark },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  })
  closeSync(log)
  child.unref()
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, by) => resolve({ code, signal: by }))
    child.once('error', () => resolve({ code: null, signal: null }))
  })
  const { pid } = child
  if (pid === undefined) throw new LocalError('process_start_failed', `${name}: ${command} cannot be started`)
  const entry = run.record({ name, pid, signal: stopSignal })
  let isOver = false
  void exited.then(() => {
    isOver = true
    if (entry !== undefined) run.forget(entry)
  })

  const send = (which: NodeJS.Signals) => {
    if (entry !== undefined && !isOver) signal(entry, which)
  }
  return {
    pid,
    exited,
    isRunning: () => !isOver,
    async stop() {
      send(stopSignal)
      const timer = setTimeout(() => send('SIGKILL'), stopMs)
      // A stopped process cannot hear that it shall end.
      send('SIGCONT')
      const exit = await whileAwake(exited)
      clearTimeout(timer)
      return exit
    },
    kill() {
      send('SIGKILL')
      return whileAwake(exited)
    },
    send,
  }
}

/** Keeps this process alive until a promise settles; a child that nobody waits for does not. */
async function whileAwake<T>(promise: Promise<T>): Promise<T> {
  const awake = setInterval(() => {}, 1000)
  try {
    return await promise
  } finally {
    clearInterval(awake)
  }
}

/** The end of a log, for a message to people. */
export function lastLines(path: string, count = 8): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-count).join('\n')
  } catch {
    return '(no log)'
  }
}
