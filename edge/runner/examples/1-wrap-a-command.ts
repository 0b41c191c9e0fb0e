/**
 * 1. Wrap a command: ask for a run, run the command under it, attest what came of it.
 *
 *     node edge/runner/examples/1-wrap-a-command.ts COMMAND…
 *
 * Needs a daemon (`lf gateway serve`) on an approved device. `RUNNER` names the runner, if there is one. `lf run` does the
 * same and more: it hashes the input, hands signals on, and attests also where the daemon is gone.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { openRunner } from '@lenserfight/runner'

const [word = 'echo', ...words] = process.argv.slice(2)
const runner = await openRunner()
try {
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
  const [exitCode, signal] = (await once(child, 'close')) as [number | null, string | null]

  const { state, outcome } = await run.complete({ exitCode, signal, stdoutHash: output.digest('base64url') })
  console.error(`run ${run.permit.runId}: ${state}, ${outcome?.result?.level ?? outcome?.code}`)
  process.exitCode = run.signal.aborted ? 5 : (exitCode ?? 1)
} finally {
  runner.close()
}
