import { writeFileSync } from 'node:fs'
import { CodedError, type RunFile, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { enrolledHere, openDaemon } from '../daemon.ts'
import { noDashes } from '../grammar/run.ts'
import { failureOf, jsonOf, plain } from '../output.ts'
import { type Attested, attest } from '../run/attest.ts'
import { type CommandEnd, checkCommand, exitCodeOf, runCommand } from '../run/command.ts'
import { hashCommand, hashFile, hashOutputs } from '../run/hash.ts'
import { ladderLines } from '../run/report.ts'
import { dieBy } from '../run/signals.ts'
import { sayIfSlow } from '../waiting.ts'

export interface RunArguments {
  readonly command: readonly string[]
  readonly submission?: string | undefined
  readonly runner?: string | undefined
  readonly contender?: string | undefined
  readonly lensVersion?: string | undefined
  readonly input: readonly string[]
  readonly output: readonly string[]
  readonly report?: string | undefined
  /** Seconds to wait for the attestation's result. */
  readonly wait: number
}

/** How long a permit is waited for: an attempt that got no answer is sent once more after 10 s. */
const startMs = 15_000
const startSeconds = startMs / 1000
/** Who pressed Ctrl-C does not want to wait. */
const interruptedWaitMs = 2_000

/** What `run_start` gave: a run that may go on, with the hashes that it is pinned to. */
interface Permit {
  readonly run_id: string
  readonly lens_hash: string | null
  readonly workflow_hash: string | null
}

const given = (members: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(Object.entries(members).filter((entry): entry is [string, string] => entry[1] !== undefined))

/** A refusal with what it means here: which device it is about, that nothing ran. */
const toldHere = (context: Context, error: unknown): unknown => {
  if (!(error instanceof CodedError) || error.detail !== undefined) return error
  const { code } = error
  if (code === 'answer_timeout' || code === 'gateway_unreachable')
    return new CodedError(code, `nothing was run; \`lf gateway doctor\` looks for the cause`, { cause: error })
  if (!code.startsWith('device_')) return error
  const { name, device_id } = enrolledHere(context)
  return new CodedError(code, `this is ${plain(name)}, ${device_id}`, { cause: error })
}

/**
 * Asks for a run.
 * @throws CodedError `policy_denied` for every verdict but allow; the daemon's and the gateway's codes
 */
const startRun = async (context: Context, run: Record<string, unknown>): Promise<Permit> => {
  const daemon = await openDaemon(context)
  const line = `lf: no permit for this run yet; waiting up to ${startSeconds} s. Nothing has run, and Ctrl-C leaves it so.`
  try {
    const result = await sayIfSlow(context.output, line, () =>
      daemon.request('run.permit', { run, timeout_ms: startMs }),
    )
    const { run_id, lens_hash = null, workflow_hash = null } = result
    return { run_id, lens_hash, workflow_hash } as Permit
  } catch (error) {
    throw toldHere(context, error)
  } finally {
    daemon.close()
  }
}

interface Facts {
  readonly permit: Permit
  readonly command_hash: string
  readonly inputs: readonly RunFile[]
  readonly outputs: readonly RunFile[]
  readonly end: CommandEnd
}

const attestationOf = ({ permit, command_hash, inputs, outputs, end }: Facts) => ({
  ...permit,
  command_hash,
  inputs,
  outputs,
  stdin_hash: end.stdinHash,
  stdout_hash: end.stdoutHash,
  started_at: end.startedAt,
  ended_at: end.endedAt,
  exit_code: end.exitCode,
  signal: end.signal,
})

/** The report as one JSON line, to a file or to standard error: standard output is the command's. */
const writeReport = (context: Context, { report }: RunArguments, value: object): void => {
  if (report === undefined) {
    if (context.output.json) context.output.note(jsonOf(value))
    return
  }
  try {
    writeFileSync(report, `${JSON.stringify(value)}\n`)
  } catch (error) {
    context.output.note(`lf: the report could not be written to ${report}: ${(error as Error).message}`)
  }
}

const tell = (context: Context, run: string, { state, opId, outcome }: Attested): void => {
  const { output } = context
  if (output.json) return
  if (state === 'queued') {
    output.note(`lf: run ${run}: its attestation is kept and not confirmed yet. See \`lf gateway operation ${opId}\`.`)
  } else if (outcome !== null && !outcome.ok) {
    const code = outcome.code ?? 'internal_error'
    output.note(`lf: run ${run} was not attested. ${output.bad(code)}: ${reasonOf(code).message}`)
  } else {
    output.note(`lf: run ${run} attested: ${output.good(String(outcome?.result?.level))}`)
    for (const line of ladderLines(outcome?.result?.ladder, output)) output.note(line)
  }
}

/** Attests what ran. Whatever fails here, the command's own end stays what it was. */
const conclude = async (
  context: Context,
  args: RunArguments,
  facts: Facts,
  missing: readonly string[],
): Promise<void> => {
  const { end, permit } = facts
  const waitMs = end.signals.wasEnded() ? Math.min(args.wait * 1000, interruptedWaitMs) : args.wait * 1000
  const attestation = attestationOf(facts)
  for (const path of missing)
    context.output.note(`lf: output ${path} was not made or cannot be read; it is not attested`)
  try {
    const attested = await attest(context, attestation, waitMs)
    const { state, opId, outcome } = attested
    const { level, reason, ladder } = outcome?.result ?? {}
    tell(context, permit.run_id, attested)
    const code = outcome?.code
    writeReport(context, args, {
      ok: outcome?.ok ?? null,
      state,
      op_id: opId,
      ...given({ code }),
      level,
      reason,
      ladder,
      ...attestation,
    })
  } catch (error) {
    const { code, message } = failureOf(error)
    context.output.note(`lf: run ${permit.run_id} was not attested. ${context.output.bad(code)}: ${message}`)
    writeReport(context, args, { ok: false, state: 'lost', code, ...attestation })
  }
}

/** All that comes before the command, which runs only when none of it fails. */
const prepare = async (context: Context, args: RunArguments) => {
  const [word, ...words] = args.command
  if (word === undefined) throw new CodedError('usage', noDashes)
  checkCommand(word, context.config.path)
  const inputs = await Promise.all(args.input.map(hashFile))
  const command_hash = hashCommand(args.command)
  const runner_id = args.runner ?? context.project().config.runner
  const { contender: contender_id, submission: submission_id, lensVersion: version_id } = args
  const named = given({ runner_id, contender_id, submission_id, version_id })
  const permit = await startRun(context, { command_hash, inputs, ...named })
  return { command: [word, ...words] as const, permit, command_hash, inputs }
}

/** `lf run`: asks for a run, runs the command as if alone, attests. Returns the command's exit code, or dies by its signal. */
export const run = async (context: Context, args: RunArguments): Promise<number> => {
  const { command, ...asked } = await prepare(context, args).catch((error: unknown) => {
    // Whoever reads the report must not take that of an earlier run for this one's.
    if (args.report !== undefined)
      writeReport(context, args, { ok: false, state: 'not_run', code: failureOf(error).code })
    throw error
  })
  const end = await runCommand(command)
  if (end.outputFailure !== null)
    context.output.note(`lf: standard output could not be written: ${end.outputFailure}; what follows of it is lost`)
  const { files: outputs, missing } = await hashOutputs(args.output)
  const left = await Promise.race([
    conclude(context, args, { ...asked, outputs, end }, missing),
    end.signals.interrupted,
  ])
  if (left !== undefined)
    context.output.note(
      `lf: run ${asked.permit.run_id}: interrupted, so the result of its attestation was not waited for`,
    )
  const signal = end.signal ?? end.interruptedBy
  return signal === null ? exitCodeOf(end) : dieBy(signal)
}
