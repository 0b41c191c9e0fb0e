/**
 * 1. Wrap a command: ask for a run, run the command under it, attest what came of it.
 *
 *     npx node edge/runner/examples/1-wrap-a-command.ts COMMAND…
 *
 * In the clone’s root: `npx node` is the Node that this repository brings. Needs a daemon (`lf gateway serve`) on an approved
 * device. `RUNNER` is the runner’s id (`lf gateway runners --json`), if there is one. `lf run` does the same and more: it hashes the input, hands signals on, and attests also where the daemon is gone.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { CodedError, openRunner, type Runner } from '@lenserfight/runner'

/** What a shell returns for a command that is not found. */
const notFound = 127

/** Runs a command under a permit. Returns the exit code. */
const wrap = async (runner: Runner, [word, ...words]: readonly [string, ...string[]]): Promise<number> => {
  const run = await runner.permit({
    command: [word, ...words],
    label: word,
    runner: process.env.RUNNER,
    onAwaiting: ({ runId }) => console.error(`waiting for approval: lf gateway approvals approve ${runId}`),
  })

  await run.start()
  const child = spawn(word, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  // The policy, or the device’s state, no longer allows the run: it has to end.
  run.signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true })

  const output = createHash('sha256')
  child.stdout.on('data', (chunk: Buffer) => {
    output.update(chunk)
    process.stdout.write(chunk)
  })
  const ended = once(child, 'close') as Promise<[number | null, string | null]>
  // A run that was started is completed, whatever became of it: else it stays open.
  const [exitCode, signal] = await ended.catch(({ message }: Error): [number, null] => {
    console.error(`${word}: ${message}`)
    return [notFound, null]
  })

  const { state, outcome } = await run.complete({ exitCode, signal, stdoutHash: output.digest('base64url') })
  console.error(`run ${run.permit.runId}: ${state}, ${outcome?.result?.level ?? outcome?.code ?? 'no result yet'}`)
  return run.signal.aborted ? 5 : (exitCode ?? 1)
}

const [word = 'echo', ...words] = process.argv.slice(2)
let runner: Runner | undefined
try {
  runner = await openRunner()
  process.exitCode = await wrap(runner, [word, ...words])
} catch (error) {
  if (!(error instanceof CodedError)) throw error
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = 1
} finally {
  runner?.close()
}
