import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { eventually, exitOf, ownTemporary } from './_support.ts'
import { readEnvironment } from './env.ts'

const { repository, inherited } = readEnvironment()
const fileOf = (program: 'start' | 'demo') => join(repository, 'deploy/local/src', `${program}.ts`)

/** Starts a program with temporary folders of its own, which are empty again when it left nothing. */
function startProgram(t: ExecutionContext, program: 'start' | 'demo', ...args: string[]) {
  const tmp = ownTemporary(t)
  // Root's database runs as somebody else, who has to pass.
  chmodSync(tmp, 0o711)
  const env = { ...inherited, TMPDIR: tmp }
  const child = spawn(process.execPath, [fileOf(program), ...args], { stdio: ['ignore', 'pipe', 'pipe'], env })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exitOf(child)
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const said = async (text: string) => t.true(await eventually(() => output.includes(text), 90_000), output)
  return { child, tmp, said, output: () => output }
}

const readOrNothing = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** How many processes were told of these temporary folders. Only Linux shows it. */
const countOf = (tmp: string): number =>
  existsSync('/proc/self/environ')
    ? readdirSync('/proc').filter((name) => readOrNothing(`/proc/${name}/environ`).includes(`TMPDIR=${tmp}`)).length
    : 0

test('an option that does not exist is told with those that do, before anything starts', (t) => {
  for (const program of ['start', 'demo'] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [fileOf(program), '--jsn'], { encoding: 'utf8' })
    t.deepEqual([status, stdout], [1, ''], program)
    t.regex(stderr, /^usage: .*--jsn.*\n\nusage: npm /, program)
    t.notRegex(stderr, /starting/, program)
  }
})

test('Ctrl-C while it starts ends it then and there, and leaves nothing', async (t) => {
  t.timeout(300_000)
  const { child, tmp, said, output } = startProgram(t, 'start', '--dir', join(ownTemporary(t), 'state'))
  await said('starting PostgreSQL, nats-server')
  child.kill('SIGINT')
  t.deepEqual(await exitOf(child), { code: 1, signal: null }, output())
  t.regex(output(), /stopped before it was up/)
  t.notRegex(output(), /The gateway is up/)
  t.deepEqual(readdirSync(tmp), [])
})

for (const [how, stop] of [
  ['is killed', 'SIGKILL'],
  ['has no reader any more', 'close'],
] as const) {
  test(`a demo that ${how} takes along what it started for the person it plays`, async (t) => {
    t.timeout(300_000)
    const { child, tmp, said } = startProgram(t, 'demo')
    await said('the daemon answers the challenge')
    if (stop === 'close') child.stdout.destroy()
    else child.kill(stop)
    await exitOf(child)
    t.true(await eventually(() => countOf(tmp) === 0 && readdirSync(tmp).length === 0, 60_000))
  })
}
