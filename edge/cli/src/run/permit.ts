import { basename } from 'node:path'
import { type Awaiting, CodedError, hashFile, openRunner, type Run, type Runner } from '@lenserfight/runner'
import type { Context } from '../context.ts'
import { enrolledHere } from '../daemon.ts'
import { plain, timeOf } from '../output.ts'
import { sayIfSlow } from '../waiting.ts'
import type { RunArguments } from './arguments.ts'

/** How long a permit is waited for: an attempt that got no answer is sent once more after 10 s. */
const permitMs = 15_000
const permitSeconds = permitMs / 1000
/** Characters of a command's name that a run is called by. */
const nameChars = 60

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

const awaitingLine = ({ runId, expiresAt }: Awaiting): string => {
  const until = expiresAt === null ? '' : ` until ${timeOf(expiresAt / 1000)}`
  return `lf: run ${runId} awaits its owner’s approval${until}: \`lf gateway approvals approve ${runId}\`. Nothing has run, and Ctrl-C leaves it so.`
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
  const inputs = await Promise.all(args.input.map(hashFile))
  enrolledHere(context)
  let runner: Runner | undefined
  let hasBegun = false
  const close = (): void => runner?.close()
  try {
    runner = await openRunner({ socket: context.edge.socket })
    const { permit } = runner
    const run = await sayIfSlow(output, slowLine, (stop) =>
      permit({
        ...{ command: args.command, inputs, label: args.label ?? labelOf(word), timeoutMs: permitMs },
        runner: args.runner ?? context.project().config.runner,
        ...{ contender: args.contender, submission: args.submission, version: args.lensVersion },
        approvalMs: args.approvalWait === undefined ? undefined : args.approvalWait * 1000,
        onAwaiting: (awaiting) => {
          stop()
          if (!output.json) output.note(awaitingLine(awaiting))
        },
        onWithdrawn: ({ code, message }) => {
          // Else that it may not begin says why.
          if (hasBegun) output.note(`lf: the command is ended. ${output.bad(code)}: ${message}`)
        },
        onLapsed: ({ code }) => {
          if (hasBegun) output.note(`lf: this run’s permit ended and was not renewed (${code}). The command goes on.`)
        },
      }),
    )
    const begin = async (): Promise<void> => {
      await run.start()
      hasBegun = true
    }
    return { run, begin, close }
  } catch (error) {
    close()
    throw toldHere(context, error)
  }
}
