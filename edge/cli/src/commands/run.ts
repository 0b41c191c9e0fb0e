import { accessSync, constants, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Attested, CodedError, hashOutputs, type Run, type RunEnd } from '@lenserfight/runner'
import { executionLevels, reasonOf } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { openDaemon } from '../daemon.ts'
import { noDashes } from '../grammar/run.ts'
import { factsOf, failureOf, jsonOf, plain } from '../output.ts'
import type { RunArguments } from '../run/arguments.ts'
import { attest } from '../run/attest.ts'
import { type CommandEnd, checkCommand, exitCodeOf, runCommand } from '../run/command.ts'
import { Interrupted, permitRun, toldHere } from '../run/permit.ts'
import { ladderLines, permitReport } from '../run/report.ts'
import { dieBy } from '../run/signals.ts'

/** Who pressed Ctrl-C does not want to wait: neither for a result, nor for a long output to be hashed. */
const interruptedWaitMs = 2_000
/** Yet what ran is to be attested: how long until its attestation is kept is waited for, all in all. */
const interruptedKeepMs = 10_000

/** So long after something has come about, milliseconds. */
const after = async (what: Promise<unknown>, ms: number): Promise<void> => {
  await what
  await sleep(ms, undefined, { ref: false })
}

const endOf = (end: CommandEnd, outputs: RunEnd['outputs'] = []): RunEnd => ({
  ...{ exitCode: end.exitCode, signal: end.signal, stdinHash: end.stdinHash, stdoutHash: end.stdoutHash, outputs },
  ...{ startedAt: end.startedAt, endedAt: end.endedAt },
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

/**
 * Whoever wants a report is to learn before anything runs that there will be none.
 * @throws CodedError `usage`
 */
const checkReport = ({ report }: RunArguments): void => {
  if (report === undefined) return
  const there = statSync(report, { throwIfNoEntry: false })
  if (there?.isDirectory()) throw new CodedError('usage', `--report: ${plain(report)} is a folder`)
  try {
    accessSync(there === undefined ? dirname(report) : report, constants.W_OK)
  } catch {
    throw new CodedError('usage', `--report: ${plain(report)} cannot be written; is its folder there?`)
  }
}

/** Whether a daemon is there to send what is kept. */
const isServed = async (context: Context): Promise<boolean> => {
  try {
    ;(await openDaemon(context)).close()
    return true
  } catch (error) {
    if (error instanceof CodedError) return false
    throw error
  }
}

const tell = async (context: Context, run: string, { state, opId, outcome }: Attested): Promise<void> => {
  const { output } = context
  if (output.json) return
  if (state === 'queued') {
    const kept = `lf: run ${run}: its attestation is kept and not confirmed yet.`
    const see = `See \`lf gateway operation ${opId}\`.`
    output.note(
      (await isServed(context))
        ? `${kept} ${see}`
        : `${kept} The daemon is gone: it is sent once \`lf gateway serve\` runs again. ${see}`,
    )
  } else if (outcome !== null && !outcome.ok) {
    const code = outcome.code ?? 'internal_error'
    output.note(`lf: run ${run} was not attested. ${output.bad(code)}: ${reasonOf(code).message}`)
  } else {
    const level = String(outcome?.result?.level)
    output.note(`lf: run ${run} attested: ${output.good(level)}`)
    for (const line of ladderLines(outcome?.result?.ladder, output)) output.note(line)
    if (level !== executionLevels.at(-1)) output.note(`lf: why: lf gateway explain ${run}`)
  }
}

/** Attests what ran. Whatever fails here, the command's own end stays what it was. */
const conclude = async (context: Context, args: RunArguments, run: Run, end: CommandEnd): Promise<void> => {
  const { interrupted, wasEnded } = end.signals
  const hashing = new AbortController()
  void after(interrupted, interruptedWaitMs).then(() => hashing.abort())
  const { files: outputs, missing, unread } = await hashOutputs(args.output, hashing.signal)
  for (const path of missing)
    context.output.note(`lf: output ${path} was not made or cannot be read; it is not attested`)
  for (const path of unread) context.output.note(`lf: interrupted while output ${path} was hashed; it is not attested`)
  const waitMs = wasEnded() ? Math.min(args.wait * 1000, interruptedWaitMs) : args.wait * 1000
  const said = endOf(end, outputs)
  const facts = { ...run.attestationOf(said), permit: permitReport(run) }
  try {
    const { promise: kept, resolve: onKept } = Promise.withResolvers<Attested>()
    const leaving = Promise.all([kept, interrupted]).then(([known]) => known)
    const attested = await Promise.race([attest(context, run, { ...said, waitMs, onKept }), leaving])
    const { state, opId, outcome } = attested
    const { level, reason, ladder } = outcome?.result ?? {}
    await tell(context, run.permit.runId, attested)
    const code = outcome?.code
    writeReport(context, args, {
      ...{ ok: outcome?.ok ?? null, state, op_id: opId },
      ...(code === undefined ? {} : { code }),
      ...{ level, reason, ladder },
      ...facts,
    })
  } catch (error) {
    const { code, message } = failureOf(error)
    context.output.note(`lf: run ${run.permit.runId} was not attested. ${context.output.bad(code)}: ${message}`)
    writeReport(context, args, { ok: false, state: 'lost', code, ...facts })
  }
}

/** Nobody waits any longer, and nothing says that its attestation was kept. */
const leave = (context: Context, args: RunArguments, run: Run): void => {
  context.output.note(
    `lf: run ${run.permit.runId}: interrupted before its attestation was known to be kept; it may never be attested`,
  )
  writeReport(context, args, { ok: null, state: 'unknown', permit: permitReport(run) })
}

/** All that comes before the command, which runs only when none of it fails. */
const prepare = async (context: Context, args: RunArguments) => {
  const [word, ...words] = args.command
  if (word === undefined) throw new CodedError('usage', noDashes)
  checkCommand(word, context.config.path)
  return { command: [word, ...words] as const, ...(await permitRun(context, args)) }
}

/**
 * `lf run`: asks for a run, runs the command as if alone, attests. Returns the command's exit code, or dies by its signal;
 * where the run was to end before the command did, the exit code says why.
 */
export const run = async (context: Context, args: RunArguments): Promise<number> => {
  checkReport(args)
  const notRun = (error: unknown): never => {
    // Whoever reads the report must not take that of an earlier run for this one's.
    if (args.report !== undefined)
      writeReport(context, args, { ok: false, state: 'not_run', code: failureOf(error).code, ...factsOf(error) })
    if (error instanceof Interrupted) return dieBy(error.signal)
    throw error
  }
  const { command, run, begin, close } = await prepare(context, args).catch(notRun)
  try {
    const end = await runCommand(command, run.signal, begin).catch((error) => notRun(toldHere(context, error)))
    if (end.outputFailure !== null)
      context.output.note(`lf: standard output could not be written: ${end.outputFailure}; what follows of it is lost`)
    const wasWithdrawn = run.signal.aborted
    await Promise.race([
      conclude(context, args, run, end),
      after(end.signals.interrupted, interruptedKeepMs).then(() => leave(context, args, run)),
    ])
    if (wasWithdrawn) return failureOf(run.signal.reason).exit
    const signal = end.signal ?? end.interruptedBy
    return signal === null ? exitCodeOf(end) : dieBy(signal)
  } finally {
    close()
  }
}
