import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError } from '@lenserfight/schemas'
import { processTree } from './processes.ts'
import { forwardSignals, type SignalForwarding } from './signals.ts'
import { prepareStandardInput } from './standard-input.ts'
import { prepareStandardOutput } from './standard-output.ts'

/** What came of a command. Times are milliseconds since 1970. */
export interface CommandEnd {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  readonly startedAt: number
  readonly endedAt: number
  readonly stdinHash: string | null
  readonly stdoutHash: string | null
  readonly signals: SignalForwarding
  /** Why not all that it wrote could be handed on, such as ENOSPC; null where it was, or where nobody read it. */
  readonly outputFailure: string | null
  /** The signal that came while its last output was being handed on to someone who did not take it. */
  readonly interruptedBy: NodeJS.Signals | null
}

/** What the command's caller is told: its own exit code, but never success where output was lost. */
export const exitCodeOf = ({ exitCode, outputFailure }: Pick<CommandEnd, 'exitCode' | 'outputFailure'>): number =>
  exitCode === 0 && outputFailure !== null ? 1 : (exitCode ?? 1)

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * Whether a command can be run at all, so that nothing is asked of the gateway for one that cannot.
 * @param word the command's first word
 * @param path PATH
 * @throws CodedError `command_not_found`, `command_not_executable`
 */
export const checkCommand = (word: string, path: string): void => {
  const candidates = word.includes('/') ? [word] : path.split(':').map((folder) => join(folder || '.', word))
  const files = candidates.filter(isFile)
  if (files.length === 0) throw new CodedError('command_not_found', word)
  if (!files.some(isExecutable)) throw new CodedError('command_not_executable', word)
}

/** What a command that is told to end may take to do so, milliseconds. */
const endMs = 5_000

/** Between two looks at what is left of it, milliseconds. */
const lookMs = 50

/**
 * Ends a command that may not go on, with all that it started: they are told to, and then made to.
 * @returns what takes that back, once the command itself is gone; it resolves when nothing is left that was told to end
 */
const endWith = (child: ChildProcess, withdrawn: AbortSignal): (() => Promise<void>) => {
  const isOver = new AbortController()
  let ending: Promise<void> | undefined
  const end = async (): Promise<void> => {
    if (child.pid === undefined) return
    const tree = processTree(child.pid)
    tree.kill('SIGTERM')
    for (const until = performance.now() + endMs; performance.now() < until; await sleep(lookMs)) {
      if (!tree.isAlive()) return
    }
    tree.kill('SIGKILL')
  }
  const onWithdrawn = (): void => {
    ending = end()
  }
  withdrawn.addEventListener('abort', onWithdrawn, { once: true, signal: isOver.signal })
  return async () => {
    isOver.abort()
    await ending
  }
}

const ended = (child: ChildProcess): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }> =>
  new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }))
  })

/**
 * Runs a command with its own standard input, output and error and its signals, looking at what goes through.
 * @param withdrawn ends it, and what it started, when it aborts: SIGTERM, and SIGKILL 5 s later
 * @param begin is asked last, right before the command is started: looking at a long input takes longer than a verdict holds (PE-2)
 * @throws CodedError `command_not_found` where it could not be started, what `begin` throws
 */
export const runCommand = async (
  [word, ...words]: readonly [string, ...string[]],
  withdrawn: AbortSignal = new AbortController().signal,
  begin: () => Promise<void> = async () => {},
): Promise<CommandEnd> => {
  const [input, output] = await Promise.all([prepareStandardInput(), prepareStandardOutput()])
  await begin()
  withdrawn.throwIfAborted()
  let child: ChildProcess | undefined
  const signals = forwardSignals(() => child)
  const startedAt = Date.now()
  child = spawn(word, words, { stdio: [input.stdio, output.stdio, output.errorStdio] })
  const ending = ended(child)
  const leave = endWith(child, withdrawn)
  input.start(child.stdin)
  output.start(child.stdout)
  const end = await ending.catch(async (cause: unknown) => {
    await leave()
    throw new CodedError('command_not_found', word, { cause })
  })
  await leave()
  const endedAt = Date.now()
  signals.commandEnded()
  const stdinHash = input.finish()
  let interruptedBy: NodeJS.Signals | null = null
  const interrupted = signals.interrupted.then((signal) => {
    interruptedBy = signal
  })
  const stdoutHash = await output.finish(interrupted)
  return {
    ...{ ...end, startedAt, endedAt, stdinHash, stdoutHash, signals, interruptedBy },
    outputFailure: output.failure(),
  }
}
