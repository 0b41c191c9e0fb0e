import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { allGone, eventually, ownRun } from './_support.ts'
import { LocalError } from './errors.ts'
import { freePort } from './ports.ts'
import { createSupervisor, type Supervisor, type WorkerSpec } from './supervisor.ts'

test('a worker is ready when it says so, is started again when killed, and stays down when stopped', async (t) => {
  const { supervisor, program } = await ownSupervisor(t)
  const port = await freePort()
  const worker = await supervisor.start(
    program('web', server, { PORT: String(port) }, `http://127.0.0.1:${port}/readyz`),
  )
  t.is(worker.state, 'ready')
  const first = worker.pid as number

  worker.send('SIGKILL')
  t.true(await eventually(() => worker.state !== 'ready'))
  await worker.whenReady()
  t.not(worker.pid, first)
  t.is(worker.restarts, 1)

  const second = worker.pid as number
  await worker.stop()
  t.is(worker.state, 'stopped')
  t.true(allGone([second]))
  t.is(worker.pid, undefined)
  await worker.start()
  t.is(worker.state, 'ready')
})

test('a worker that dies again and again is started ever more slowly', async (t) => {
  const { supervisor, program, logDir } = await ownSupervisor(t)
  const spec = { ...program('dying', 'process.exit(3)'), ready: async () => false, readyMs: 6000 }
  const error = await t.throwsAsync(supervisor.start(spec), { instanceOf: LocalError })
  t.is(error.code, 'process_not_ready')
  const rests = readFileSync(join(logDir, 'supervisor.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; name: string; code?: number; for_ms?: number })
    .filter(({ event }) => event === 'process_resting')
  t.true(rests.length >= 2 && rests.length <= 6, `${rests.length}`)
  t.true(rests.every(({ code }) => code === 3))
  const waits = rests.map(({ for_ms }) => for_ms as number)
  t.deepEqual(waits, [200, 400, 800, 1600, 3200, 6400].slice(0, waits.length))
})

test('one that ignores the request to stop is killed when its deadline is over', async (t) => {
  const { supervisor, program, logDir } = await ownSupervisor(t)
  const code = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('deaf')`
  const isDeaf = async () => readFileSync(join(logDir, 'deaf.log'), 'utf8').includes('deaf')
  const worker = await supervisor.start({ ...program('deaf', code), ready: isDeaf, stopMs: 300 })
  const pid = worker.pid as number
  await worker.stop()
  t.true(allGone([pid]))
})

test('workers are stopped in the reverse order of their start', async (t) => {
  const { supervisor, program, logDir } = await ownSupervisor(t)
  const code = 'setInterval(() => {}, 1000)'
  for (const name of ['first', 'second', 'third']) await supervisor.start(program(name, code))
  await supervisor.stopAll()
  const stopped = readFileSync(join(logDir, 'supervisor.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; name: string })
    .filter(({ event }) => event === 'process_stopped')
    .map(({ name }) => name)
  t.deepEqual(stopped, ['third', 'second', 'first'])
})

test('a worker sees the environment that it was given and nothing of ours', async (t) => {
  const { supervisor, program, logDir } = await ownSupervisor(t)
  const code = 'console.log(JSON.stringify(Object.keys(process.env).sort())); setInterval(() => {}, 1000)'
  const isWritten = async () => readFileSync(join(logDir, 'env.log'), 'utf8').includes(']')
  await supervisor.start({ ...program('env', code, { GIVEN: '1' }), ready: isWritten })
  t.deepEqual(JSON.parse(readFileSync(join(logDir, 'env.log'), 'utf8')), ['GIVEN', 'LTG_RUN'])
})

const server = `
  const http = require('node:http')
  http.createServer((_, response) => response.end()).listen(Number(process.env.PORT), '127.0.0.1')
`

interface Own {
  supervisor: Supervisor
  logDir: string
  program(name: string, code: string, env?: Record<string, string>, ready?: string): WorkerSpec
}

async function ownSupervisor(t: ExecutionContext): Promise<Own> {
  const { run } = await ownRun(t)
  const logDir = mkdtempSync(join(run.folder, 'logs-'))
  const supervisor = createSupervisor({ run, logDir })
  t.teardown(() => supervisor.stopAll())
  return {
    supervisor,
    logDir,
    program(name, code, env = {}, ready) {
      const script = join(logDir, `${name}.cjs`)
      writeFileSync(script, code)
      return { name, command: process.execPath, args: [script], env, ...(ready === undefined ? {} : { ready }) }
    },
  }
}
