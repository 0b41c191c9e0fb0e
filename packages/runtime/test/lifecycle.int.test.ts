import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, mkdtempSync, openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const worker = fileURLToPath(new URL('_worker.ts', import.meta.url))

interface Run {
  child: ChildProcess
  events: string[]
  seen: (event: string) => Promise<void>
  ended: Promise<{ code: number | null; events: string[] }>
}

const run = (scenario: string): Run => {
  const child = spawn(process.execPath, [worker, scenario], { stdio: ['pipe', 'pipe', 'inherit'] })
  const events: string[] = []
  const waiting = new Map<string, () => void>()
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => {
    const { event } = JSON.parse(line) as { event: string }
    events.push(event)
    waiting.get(event)?.()
  })
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(([[code]]) => ({ code, events }))
  const seen = (event: string) =>
    events.includes(event) ? Promise.resolve() : new Promise<void>((resolve) => waiting.set(event, resolve))
  return { child, events, seen, ended }
}

test('SIGTERM stops the parts in reverse order and exits 0', async (t) => {
  const { child, seen, ended } = run('plain')
  await seen('ready')
  child.kill('SIGTERM')
  t.deepEqual(await ended, { code: 0, events: ['ready', 'stopping', 'stopped_second', 'stopped_first', 'exit'] })
})

test('a part that does not stop within its deadline is passed over, and the exit says so', async (t) => {
  const { child, seen, ended } = run('late')
  await seen('ready')
  child.kill('SIGINT')
  const { code, events } = await ended
  t.is(code, 1)
  t.deepEqual(events.slice(1), ['stopping', 'stop_late', 'stopped_second', 'stopped_first', 'exit'])
})

test('a second signal exits 1 at once', async (t) => {
  const { child, seen, ended } = run('stuck')
  await seen('ready')
  child.kill('SIGTERM')
  await seen('stopping')
  child.kill('SIGTERM')
  const { code, events } = await ended
  t.is(code, 1)
  t.deepEqual(events, ['ready', 'stopping', 'exit'])
})

test('a supervised worker stops when its standard input closes', async (t) => {
  const { child, seen, ended } = run('supervised')
  await seen('ready')
  child.stdin?.end()
  const { code, events } = await ended
  t.is(code, 0)
  t.true(events.includes('stopped_first'))
})

for (const scenario of ['crash', 'startup']) {
  test(`an error that nobody caught stops the parts and exits 1: ${scenario}`, async (t) => {
    const { code, events } = await run(scenario).ended
    t.is(code, 1)
    t.deepEqual(events, ['ready', 'failed', 'stopping', 'stopped_second', 'stopped_first', 'exit'])
  })
}

test('a refusal that was foreseen is one line with its code and no stack, and exits by the code', async (t) => {
  const { stdout, status } = spawnSync(process.execPath, [worker, 'refused'], { encoding: 'utf8', input: '' })
  t.is(status, 5)
  const line = stdout.split('\n').find((each) => each.includes('"event":"failed"')) ?? ''
  t.is(JSON.parse(line).code, 'workspace_paused')
  t.notRegex(stdout, /stack|lifecycle/)
})

test('a process that fails while its log’s disk is full ends all the same, with exit code 1', async (t) => {
  const log = openSync(join(mkdtempSync(join(tmpdir(), 'ltg-log-')), 'log'), 'w')
  t.teardown(() => closeSync(log))
  // No file may grow any more, as on a full disk.
  const full = ['-c', 'ulimit -f 0; exec "$@"', 'sh', process.execPath, worker, 'crash']
  const child = spawn('/bin/sh', full, { stdio: ['ignore', log, 'ignore'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [code] = await once(child, 'exit')
  t.is(code, 1)
  t.is(fstatSync(log).size, 0, 'nothing could be logged')
})
