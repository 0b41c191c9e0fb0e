import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { readEnvironment, startOf } from '@lenserfight/local'
import type { StackDescription } from '@lenserfight/local/stack'
import { serviceNames } from '@lenserfight/schemas'
import { readTestEnvironment } from '@lenserfight/testkit'
import test, { type ExecutionContext } from 'ava'
import pg from 'pg'
import { eventually } from './_health.ts'

/** The very program behind `npm start`, in a folder of the test's own. */
interface Started {
  readonly child: ChildProcess
  readonly dir: string
  /** Everything it wrote, for messages. */
  readonly output: () => string
}

const isGone = (pid: number | undefined): boolean => pid === undefined || startOf(pid) === undefined

const exitOf = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null)
      resolve({ code: child.exitCode, signal: child.signalCode })
    else child.once('exit', (code, signal) => resolve({ code, signal }))
  })

const startProgram = async (t: ExecutionContext, dir: string): Promise<Started> => {
  const env = readEnvironment()
  const { natsServer } = readTestEnvironment()
  const script = join(env.repository, 'deploy/local/src/start.ts')
  const child = spawn(process.execPath, [script, '--dir', dir, '--verifiers', '2'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...env.inherited, ...(natsServer === undefined ? {} : { NATS_SERVER: natsServer }) },
  })
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
  const isUp = await eventually(() => output.includes('The gateway is up') || child.exitCode !== null, 60_000)
  t.true(isUp && child.exitCode === null, output)
  return { child, dir, output: () => output }
}

const describe = ({ dir }: Pick<Started, 'dir'>): StackDescription =>
  JSON.parse(readFileSync(join(dir, 'stack.json'), 'utf8'))

const pidsOf = ({ nats, pg, services }: StackDescription): (number | undefined)[] => [
  nats.pid,
  pg.pid,
  ...Object.values(services).flatMap((replicas) => replicas.map(({ pid }) => pid)),
]

const folderOf = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(readEnvironment().tmp, 'ltg-up-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const answers = async (url: string): Promise<string> => {
  const client = new pg.Client(url)
  await client.connect()
  try {
    return (await client.query<{ current_user: string }>('SELECT current_user')).rows[0]?.current_user ?? ''
  } finally {
    await client.end()
  }
}

test('stack.json is for this user alone, names every process, and its addresses are real; a killed worker is said not ready, comes back as another process and is ready again', async (t) => {
  t.timeout(180_000)
  const started = await startProgram(t, folderOf(t))
  t.is(statSync(join(started.dir, 'stack.json')).mode & 0o777, 0o600)
  const described = describe(started)
  t.deepEqual(Object.keys(described.services), [...serviceNames])
  t.is(described.services.verifier?.length, 2)
  t.true(Object.values(described.services).every((replicas) => replicas.every(({ ready }) => ready)))
  t.false(pidsOf(described).some(isGone))

  t.is(await answers(described.pg.owner), 'postgres')
  for (const [role, url] of Object.entries(described.pg.roles)) t.is(await answers(url), role)
  const { url } = JSON.parse(readFileSync(described.gateway.descriptor, 'utf8'))
  t.is(url, described.nats.url)
  const keys = await fetch(`${described.issuer.url}/.well-known/jwks.json`)
  t.is(keys.status, 200)

  for (const name of serviceNames) {
    const replica = () => describe(started).services[name]?.[0]
    const before = replica()?.pid
    process.kill(before ?? 0, 'SIGKILL')
    t.true(await eventually(() => replica()?.ready === false, 5000), `${name} is said not ready`)
    t.true(await eventually(() => replica()?.ready === true, 20_000), `${name} is ready again`)
    t.not(replica()?.pid, before)
  }
})

test('kill -9 of what runs the stack leaves no process; it starts again in the same folder; Ctrl-C ends it with status 0', async (t) => {
  t.timeout(120_000)
  const dir = folderOf(t)
  const first = await startProgram(t, dir)
  const pids = pidsOf(describe(first))
  first.child.kill('SIGKILL')
  t.true(await eventually(() => pids.every(isGone), 10_000), 'nothing outlives it')

  const second = await startProgram(t, dir)
  const again = pidsOf(describe(second))
  t.false(again.some(isGone))
  second.child.kill('SIGINT')
  t.deepEqual(await exitOf(second.child), { code: 0, signal: null }, second.output())
  t.true(again.every(isGone), 'everything is gone when it has ended')
})
