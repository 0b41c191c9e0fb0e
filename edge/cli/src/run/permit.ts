import { basename } from 'node:path'
import { spanOf } from '@lenserfight/daemon/span'
import {
  type Awaiting,
  CodedError,
  type GivenUp,
  hashCommand,
  hashFile,
  openRunner,
  type Run,
  type Runner,
  RunRefused,
} from '@lenserfight/runner'
import { shortHashOf } from '../approvals/describe.ts'
import type { Context } from '../context.ts'
import { enrolledHere, whyGone } from '../daemon.ts'
import { FailureWith, plain, timeOf, wordOf } from '../output.ts'
import { runnerNamed } from '../owner/runner-named.ts'
import { sayIfSlow } from '../waiting.ts'
import type { RunArguments } from './arguments.ts'

/** How long a permit is waited for: an attempt that got no answer is sent once more after 10 s. */
const permitMs = 15_000
const permitSeconds = permitMs / 1000
/** Characters of a command's name that a run is called by. */
const nameChars = 60
/** Below so many seconds a time is told in seconds. */
const secondsUntil = 120

/** What a run is called that nobody named: its command's name. */
const labelOf = (word: string): string | undefined => {
  const name = basename(word).replaceAll(/\p{C}/gu, '')
  return [...name].slice(0, nameChars).join('') || undefined
}

/** A refusal with what it means here: which device it is about, that nothing ran. */
export const toldHere = (context: Context, error: unknown): unknown => {
  if (!(error instanceof CodedError) || error.detail !== undefined) return error
  const { code } = error
  if (code === 'answer_timeout' || code === 'gateway_unreachable')
    return new CodedError(code, 'nothing was run; `lf gateway doctor` looks for the cause', { cause: error })
  if (!code.startsWith('device_')) return error
  const { name, device_id } = enrolledHere(context)
  return new CodedError(code, `this is ${plain(name)}, ${device_id}`, { cause: error })
}

/** Until when a person can answer: a time to the minute says little of the last two. @param now milliseconds since 1970 */
const untilOf = (expiresAt: number | null, now: number): string => {
  if (expiresAt === null) return ''
  const left = Math.max(0, (expiresAt - now) / 1000)
  return left < secondsUntil ? `, for ${spanOf(left)} yet` : ` until ${timeOf(expiresAt / 1000)}`
}

/** What is awaited, with the command by which a person knows the run again in `lf gateway approvals`. */
const awaitingLine = ({ runId, expiresAt }: Awaiting, command: readonly string[], now: number = Date.now()): string => {
  const answers = `\`lf gateway approvals approve ${runId}\`, or \`lf gateway approvals deny ${runId}\``
  const what = `run ${runId} (${shortHashOf(hashCommand(command))})`
  return `lf: ${what} awaits its owner’s approval${untilOf(expiresAt, now)}: ${answers}. Nothing has run; Ctrl-C takes it back.`
}

const leftLine = ({ runId, isKept }: GivenUp): string =>
  isKept
    ? `lf: nothing has run. Run ${runId} is taken back: it holds no place, and nobody can approve it any more.`
    : `lf: nothing has run. The daemon takes run ${runId} back as soon as it is there and sees that nobody waits.`

/** Whoever started it did not want to wait for a person any longer: nothing has run. */
export class Interrupted extends CodedError {
  readonly signal: NodeJS.Signals
  constructor(signal: NodeJS.Signals, runId: string) {
    super('approval_required', runId)
    this.signal = signal
  }
}
const interrupting = ['SIGINT', 'SIGTERM'] as const

/** The end of a wait for a person, by a signal; before and after it, signals mean what they meant. */
const createWait = () => {
  const abort = new AbortController()
  let onSignal: ((signal: NodeJS.Signals) => void) | undefined
  return {
    signal: abort.signal,
    begin: (runId: string): void => {
      onSignal = (signal) => {
        if (abort.signal.aborted) return
        abort.abort(new Interrupted(signal, runId))
      }
      for (const name of interrupting) process.on(name, onSignal)
    },
    end: (): void => {
      if (onSignal !== undefined) for (const name of interrupting) process.off(name, onSignal)
      abort.signal.throwIfAborted()
    },
  }
}

/** Told before anything runs: what it costs is learnt too late from the level. */
const unboundLine = (runner: string): string =>
  `lf: runner ${plain(runner)} is not bound to this machine, so this run reaches device_verified at most. To bind it here: ` +
  `\`lf gateway runners bind ${wordOf(runner)}\`.`

/** A refusal with its run, for programs: which, why, and whether it is taken back (null where none awaited anybody). */
const withRun = (error: unknown, left: GivenUp | undefined): unknown => {
  if (!(error instanceof CodedError) || error instanceof Interrupted) return error
  const { runId, reason } = error instanceof RunRefused ? error : { runId: left?.runId, reason: undefined }
  if (runId === undefined) return error
  return new FailureWith(error, { run_id: runId, reason: reason ?? null, taken_back: left?.isKept ?? null })
}

const slowLine = `lf: no permit for this run yet; waiting up to ${permitSeconds} s. Nothing has run, and Ctrl-C leaves it so.`

/** A permitted run, and the conversation to close when all is said of it. */
export interface Permitted {
  readonly run: Run
  /** The command begins now. @throws CodedError where it may not */
  readonly begin: () => Promise<void>
  readonly close: () => void
}

/**
 * Asks for a run, and waits for its owner where the policy wants that; nothing has begun then.
 * @throws CodedError for every verdict but allow; the daemon's and the gateway's codes
 */
export const permitRun = async (context: Context, args: RunArguments): Promise<Permitted> => {
  const { output } = context
  const [word = ''] = args.command
  const inputs = await Promise.all(args.input.map((path) => hashFile(path)))
  enrolledHere(context)
  const named = args.runner === undefined ? context.project().config.runner : await runnerNamed(context, args.runner)
  let runner: Runner | undefined
  let hasBegun = false
  let left: GivenUp | undefined
  const close = (): void => runner?.close()
  const wait = createWait()
  try {
    runner = await openRunner({ socket: context.edge.socket })
    const { permit } = runner
    const run = await sayIfSlow(output, slowLine, (stop) =>
      permit({
        ...{ command: args.command, inputs, label: args.label ?? labelOf(word), timeoutMs: permitMs },
        runner: named,
        ...{ contender: args.contender, submission: args.submission, version: args.lensVersion },
        approvalMs: args.approvalWait === undefined ? undefined : args.approvalWait * 1000,
        onAwaiting: (awaiting) => {
          stop()
          wait.begin(awaiting.runId)
          if (!output.json) output.note(awaitingLine(awaiting, args.command))
        },
        onGivenUp: (given) => {
          left = given
          if (!output.json) output.note(leftLine(given))
        },
        signal: wait.signal,
        onWithdrawn: ({ code, message }) => {
          // Else that it may not begin says why.
          if (hasBegun) output.note(`lf: the command is ended. ${output.bad(code)}: ${message}`)
        },
        onLapsed: ({ code }) => {
          if (hasBegun) output.note(`lf: this run’s permit ended and was not renewed (${code}). The command goes on.`)
        },
      }),
    ).finally(wait.end)
    if (run.permit.isRunnerBound === false && !output.json) output.note(unboundLine(args.runner ?? named ?? ''))
    const begin = async (): Promise<void> => {
      await run.start()
      hasBegun = true
    }
    return { run, begin, close }
  } catch (error) {
    close()
    throw withRun(whyGone(context, toldHere(context, error)), left)
  }
}
