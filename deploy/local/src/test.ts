import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type LocalEnvironment, readEnvironment } from './env.ts'
import { ownFolder, temporaryRunFolder } from './folders.ts'
import { ensureNatsServer } from './nats-server.ts'
import { startPostgres } from './postgres.ts'
import { cleanDeadRuns, openRun } from './run.ts'
import { scanLogs } from './scan-logs.ts'
import { onStopRequest, type StopRequest } from './stop-signals.ts'
import { countTests } from './test-summary.ts'

// npm test [-- PATH… or options of ava]: one PostgreSQL cluster for all files, then ava, then a look through every log.
const env = readEnvironment()
const stop = onStopRequest()
const logs = logFolder(env)
const { output, exitCode } = await testRun(process.argv.slice(2))
const findings = scanLogs(logs)
for (const { file, line, what } of findings) console.log(`  ✘ the log ${file}:${line} shows ${what}`)
if (findings.length === 0) rmSync(logs, { recursive: true })
else console.log(`\n  The logs are kept in ${logs}`)

const counts = countTests(output, exitCode)
const failed = counts.failed + (findings.length === 0 ? 0 : 1)
console.log(`${counts.passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
stop.release()

async function testRun(args: string[]): Promise<{ output: string; exitCode: number }> {
  await cleanDeadRuns(env)
  const folder = temporaryRunFolder(env)
  const run = await openRun({ dir: folder, folder })
  try {
    const nats = await ensureNatsServer({ env, say: console.error })
    const postgres = await startPostgres({ env, run, fsync: false, log: join(logs, 'postgres.log') })
    const given = {
      LTG_TEST_PG: JSON.stringify(postgres.owner),
      LTG_NATS_SERVER: nats.path,
      LTG_TEST_LOGS: logs,
      // Whatever a test leaves behind when it is killed goes with the run.
      TMPDIR: ownFolder(join(run.folder, 'tmp'), 0o711),
      // Some thousand processes of the same sources: each compiles what none before it did.
      NODE_COMPILE_CACHE: ownFolder(join(run.folder, 'compiled')),
    }
    return await runAva(args, { ...env.inherited, ...run.mark, ...given }, stop)
  } finally {
    await run.close()
  }
}

/** Runs ava with its output shown as it comes. Its process ends with the run's, whichever way that goes. */
async function runAva(
  args: string[],
  vars: NodeJS.ProcessEnv,
  stop: StopRequest,
): Promise<{ output: string; exitCode: number }> {
  const cli = join(env.repository, 'node_modules', 'ava', 'entrypoints', 'cli.js')
  const colours = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}
  const ava = spawn(process.execPath, [cli, ...args], {
    cwd: env.repository,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...vars, ...colours },
  })
  let output = ''
  ava.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    process.stdout.write(text)
  })
  const onStop = () => ava.kill('SIGTERM')
  stop.signal.addEventListener('abort', onStop)
  const exitCode = await new Promise<number>((resolve, reject) => {
    ava.once('error', reject)
    ava.once('close', (code) => resolve(code ?? 1))
  })
  stop.signal.removeEventListener('abort', onStop)
  return { output, exitCode }
}

/** Every stack of the run logs below this folder. It is removed once it was scanned, and kept when something was found. */
function logFolder({ repository, uid, tmp }: LocalEnvironment): string {
  const name = `${new Date().toISOString().replaceAll(/[:.]/g, '-')}-${process.pid}`
  try {
    ownFolder(join(repository, '.local'))
    return ownFolder(join(repository, '.local', 'test-logs', name))
  } catch {
    // The repository may belong to somebody else.
    return ownFolder(join(tmp, `ltg-${uid ?? 'user'}-logs-${name}`))
  }
}
