import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { LocalError } from './errors.ts'
import { type Exit, lastLines, type Program, startProgram } from './program.ts'
import type { Run } from './run.ts'

/** The life of a supervised process. `resting`: it died, and is started again when its back-off is over. */
export const workerStates = ['starting', 'ready', 'resting', 'stopping', 'stopped'] as const
export type WorkerState = (typeof workerStates)[number]

export interface WorkerSpec {
  /** Unique among the supervisor's workers; names the log file too. */
  name: string
  command: string
  args?: string[]
  env: Record<string, string>
  cwd?: string
  /** Whether the process is ready: a URL that answers 200, or a question of one's own. Left out: ready when started. */
  ready?: string | (() => Promise<boolean>)
  /** Time to become ready after a start before that counts as failed, in milliseconds. Default 30 s. */
  readyMs?: number
  /** Start it again when it dies. Default: yes. */
  restart?: boolean
  stopSignal?: NodeJS.Signals
  /** Time between stop signal and SIGKILL, in milliseconds. Default 10 s. */
  stopMs?: number
}

/** A process kept alive. */
export interface Worker {
  readonly name: string
  readonly log: string
  /** Of the current life; undefined between two lives. */
  readonly pid: number | undefined
  readonly state: WorkerState
  /** How often it was started again. */
  readonly restarts: number
  /** Resolves when it is ready in its current or next life. Throws `process_not_ready`. */
  whenReady(timeoutMs?: number): Promise<void>
  /** Sends a signal to the current life. After SIGKILL it is started again. */
  send(signal: NodeJS.Signals): void
  /** Ends it and does not start it again. */
  stop(): Promise<void>
  /** Starts a stopped one again; resolves when it is ready. */
  start(): Promise<void>
}

export interface Supervisor {
  readonly workers: ReadonlyMap<string, Worker>
  /** Starts a worker and waits until it is ready. Throws `process_not_ready` with its log's last lines. */
  start(spec: WorkerSpec): Promise<Worker>
  /** Stops all, the last started first, one after the other; those of one `start` order have each their own deadline. */
  stopAll(): Promise<void>
}

export interface SupervisorOptions {
  run: Run
  /** Folder of the logs: `<name>.log` each, and `supervisor.log` in JSON lines. */
  logDir: string
  /** Told whenever a process starts, becomes ready, dies or is stopped. */
  onChange?: (worker: Worker) => void
}

const backoff = { firstMs: 100, mostMs: 5000, calmMs: 10_000 }
const defaultReadyMs = 30_000
const pollMs = 25

/** Keeps processes alive. Nothing here keeps this process alive, and nothing outlives it. */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { logDir, onChange = () => {} } = options
  const workers = new Map<string, Worker>()
  mkdirSync(logDir, { recursive: true, mode: 0o700 })
  const note = (event: string, detail: Record<string, unknown>) => {
    const line = { time: new Date().toISOString(), level: 'info', component: 'supervisor', event, ...detail }
    appendFileSync(join(logDir, 'supervisor.log'), `${JSON.stringify(line)}\n`, { mode: 0o600 })
  }
  return {
    workers,
    async start(spec) {
      if (workers.has(spec.name)) throw new TypeError(`a worker named ${spec.name} exists`)
      const worker = createWorker({ spec, run: options.run, log: join(logDir, `${spec.name}.log`), note, onChange })
      workers.set(spec.name, worker)
      await worker.start()
      return worker
    },
    async stopAll() {
      for (const worker of [...workers.values()].reverse()) await worker.stop()
    },
  }
}

interface WorkerContext {
  spec: WorkerSpec
  run: Run
  log: string
  note: (event: string, detail: Record<string, unknown>) => void
  onChange: (worker: Worker) => void
}

function createWorker(context: WorkerContext): Worker {
  const { spec, run, log, note, onChange } = context
  let state: WorkerState = 'stopped'
  let program: Program | undefined
  let restarts = 0
  let restMs = backoff.firstMs
  let restTimer: NodeJS.Timeout | undefined

  const become = (next: WorkerState, detail: Record<string, unknown> = {}) => {
    state = next
    note(`process_${next}`, { name: spec.name, pid: program?.pid, ...detail })
    onChange(worker)
  }

  const launch = () => {
    const startedAt = Date.now()
    const life = startProgram({ ...spec, run, log })
    program = life
    become('starting')
    void becomeReady(life)
    void life.exited.then((exit) => {
      program = undefined
      if (state === 'stopping' || state === 'stopped') return
      // A process that ran calmly for a while has earned a quick start.
      restMs = Date.now() - startedAt > backoff.calmMs ? backoff.firstMs : Math.min(restMs * 2, backoff.mostMs)
      rest(exit)
    })
  }

  const rest = (exit: Exit) => {
    if (spec.restart === false) return become('stopped', { ...exit })
    become('resting', { ...exit, for_ms: restMs })
    restTimer = setTimeout(() => {
      restarts += 1
      launch()
    }, restMs).unref()
  }

  const becomeReady = async (life: Program) => {
    while (program === life && state === 'starting') {
      if (await isReady(spec.ready)) {
        if (program === life && state === 'starting') become('ready')
        return
      }
      await new Promise((done) => setTimeout(done, pollMs).unref())
    }
  }

  const worker: Worker = {
    name: spec.name,
    log,
    get pid() {
      return program?.pid
    },
    get state() {
      return state
    },
    get restarts() {
      return restarts
    },
    async whenReady(timeoutMs = spec.readyMs ?? defaultReadyMs) {
      const end = Date.now() + timeoutMs
      while (state !== 'ready') {
        const isOver = state === 'stopped' || state === 'stopping'
        if (isOver || Date.now() > end) {
          const why = isOver ? state : `still ${state} after ${timeoutMs} ms`
          throw new LocalError('process_not_ready', `${spec.name} is ${why}; ${log} ends with:\n${lastLines(log)}`)
        }
        await new Promise((done) => setTimeout(done, pollMs))
      }
    },
    send: (signal) => program?.send(signal),
    async stop() {
      clearTimeout(restTimer)
      if (state === 'stopped') return
      const life = program
      become('stopping')
      const exit = await life?.stop()
      become('stopped', { ...exit })
    },
    async start() {
      if (state !== 'stopped') return worker.whenReady()
      restMs = backoff.firstMs
      launch()
      await worker.whenReady()
    },
  }
  return worker
}

async function isReady(ready: WorkerSpec['ready']): Promise<boolean> {
  if (ready === undefined) return true
  try {
    if (typeof ready === 'function') return await ready()
    const response = await fetch(ready, { signal: AbortSignal.timeout(1000) })
    await response.arrayBuffer()
    return response.status === 200
  } catch {
    return false
  }
}
