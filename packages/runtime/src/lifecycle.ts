import { CodedError, reasonOf } from '@lenserfight/schemas'
import type { Logger } from 'pino'

type Stop = () => Promise<void> | void

export interface Lifecycle {
  /** Registers what ends a part; the part registered last is stopped first. Milliseconds. */
  readonly onStop: (name: string, stop: Stop, deadlineMs: number) => void
  /** Aborted as soon as stopping begins. */
  readonly signal: AbortSignal
  /** Begins stopping from within: with an error the process exits by its code, else 1. Also while parts are still being started. */
  readonly stop: (reason: string, error?: unknown) => void
  /** Keeps the process alive until a stop has ended it. Never returns. */
  readonly run: () => Promise<never>
}

export interface LifecycleOptions {
  readonly logger: Logger
  /** Stop, too, when standard input or the IPC channel closes: whoever started this process is gone. */
  readonly supervised?: boolean | undefined
}

interface Registered {
  readonly name: string
  readonly stop: Stop
  readonly deadlineMs: number
}

/** Runs one stop within its deadline; whether it ended in time and well. */
const runStop = async ({ name, stop, deadlineMs }: Registered, logger: Logger): Promise<boolean> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, deadlineMs, 'late')
  })
  try {
    const result = await Promise.race([Promise.resolve().then(stop), late])
    if (result === 'late') logger.error({ event: 'stop_late', part: name, deadlineMs }, 'a part did not stop in time')
    return result !== 'late'
  } catch (err) {
    logger.error({ event: 'stop_failed', part: name, err }, 'a part failed to stop')
    return false
  } finally {
    clearTimeout(timer)
  }
}

const exitOf = (error: unknown): number => (error instanceof CodedError ? (reasonOf(error.code).exit ?? 1) : 1)

/** What was foreseen is told by its code; of everything else, and of what lies behind a code, the stack is needed. */
const whatFailed = (error: unknown): object =>
  error instanceof CodedError && error.cause === undefined ? { code: error.code, detail: error.detail } : { err: error }

const watchSupervisor = (gone: () => void): void => {
  if (process.connected) process.once('disconnect', gone)
  else process.stdin.on('end', gone).on('error', gone).on('close', gone).resume()
}

/**
 * How a process ends (style.md, habit 7): SIGTERM, SIGINT, its supervisor's death or an error nobody caught begin it;
 * the stops run one after another, the last registered first, each within its deadline; a second signal exits 1 at once.
 */
export const createLifecycle = ({ logger, supervised }: LifecycleOptions): Lifecycle => {
  const stops: Registered[] = []
  const controller = new AbortController()
  let exitCode = 0

  const runStops = async (reason: string): Promise<never> => {
    logger.info({ event: 'stopping', reason }, 'stopping')
    for (let last = stops.pop(); last !== undefined; last = stops.pop()) {
      if (!(await runStop(last, logger))) exitCode ||= 1
    }
    logger.info({ event: 'exit', reason, code: exitCode }, 'stopped')
    return process.exit(exitCode)
  }

  const stop = (reason: string, error?: unknown): void => {
    if (error !== undefined) {
      exitCode = exitOf(error)
      logger.fatal({ event: 'failed', reason, ...whatFailed(error) }, 'stopping after a failure')
    }
    if (controller.signal.aborted) return
    controller.abort()
    void runStops(reason)
  }
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) {
      logger.warn({ event: 'exit', reason: name, code: 1 }, 'exiting at once')
      process.exit(1)
    }
    stop(name)
  }

  process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  process.on('uncaughtException', (error) => stop('uncaught_exception', error))
  process.on('unhandledRejection', (error) => stop('unhandled_rejection', error))
  if (supervised) watchSupervisor(() => stop('supervisor_gone'))

  const run = (): Promise<never> => {
    // What is registered may be asleep (reconnecting, waiting): the process ends by its stops alone.
    setInterval(() => {}, 2 ** 30)
    return new Promise(() => {})
  }
  return {
    onStop: (name, fn, deadlineMs) => stops.push({ name, stop: fn, deadlineMs }),
    signal: controller.signal,
    stop,
    run,
  }
}
