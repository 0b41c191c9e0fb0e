import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { readEnvironment } from './env.ts'
import { onStopRequest } from './stop-signals.ts'

// npm run verify: everything that must hold, in the order of what it costs; the first failure ends it.
const env = readEnvironment()
const bin = (name: string) => join(env.repository, 'node_modules', '.bin', name)
const bootstrap = join(env.repository, 'deploy', 'local', 'bootstrap.mjs')
const steps: [name: string, command: string, args: string[]][] = [
  ['types', bin('tsc'), ['--noEmit']],
  ['lint', bin('biome'), ['check', '--error-on-warnings', '.']],
  ['tests', process.execPath, [bootstrap, 'test']],
  ['demo', process.execPath, [bootstrap, 'demo']],
]

const stop = onStopRequest()
process.exitCode = await verify()
stop.release()

async function verify(): Promise<number> {
  for (const [index, [name, command, args]] of steps.entries()) {
    const place = `verify ${index + 1}/${steps.length} ${name}`
    console.log(`── ${place}`)
    const started = performance.now()
    const code = await runStep(command, args)
    const took = `${((performance.now() - started) / 1000).toFixed(1)} s`
    if (code !== 0) {
      console.log(`── ${place}: failed with status ${code} after ${took}`)
      return code
    }
    console.log(`── ${place}: held (${took})`)
  }
  console.log('verify: everything held')
  return 0
}

function runStep(command: string, args: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: env.repository,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: env.inherited,
    })
    const onStop = () => child.kill('SIGTERM')
    stop.signal.addEventListener('abort', onStop)
    child.once('error', reject)
    child.once('exit', (code) => {
      stop.signal.removeEventListener('abort', onStop)
      resolve(stop.signal.aborted ? 1 : (code ?? 1))
    })
  })
}
