import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { newUuidV7 } from '@lenserfight/envelope'
import test, { type ExecutionContext } from 'ava'
import { enrol, newConfig } from './_enrolled.ts'
import { openState } from './boot.ts'
import type { EdgeConfig as Config } from './config.ts'
import { connectDaemon } from './socket/client.ts'

const program = fileURLToPath(new URL('../bin/lf-gatewayd', import.meta.url))
const hash = 'A'.repeat(43)
const attestation = {
  ...{ run_id: newUuidV7(), command_hash: hash, stdin_hash: null, stdout_hash: null, inputs: [], outputs: [] },
  ...{ lens_hash: null, workflow_hash: null, started_at: 1, ended_at: 2, exit_code: 0, signal: null },
}

const newMachine = async (): Promise<Config> => {
  const config = newConfig()
  await enrol(config)
  // Whoever is not there is asked for all the time, and each time there is a line in the log.
  const reconnect = { floor_ms: 20, first_ceiling_ms: 40, ceiling_ms: 80 }
  writeFileSync(config.configFile, JSON.stringify({ reconnect }), { mode: 0o600 })
  return config
}

const until = async (holds: () => boolean): Promise<void> => {
  for (const end = Date.now() + 90_000; !holds(); await new Promise((resolve) => setTimeout(resolve, 50)))
    if (Date.now() > end) throw new Error('what was waited for did not come about')
}

/** Starts the daemon, its log to a file, and waits until it is up. */
const serve = async (t: ExecutionContext, config: Config) => {
  const log = join(mkdtempSync(join(tmpdir(), 'lf-log-')), 'log')
  const fd = openSync(log, 'w')
  // With what the run's other processes compiled: a profile of its own would have all of it compiled again.
  const { PATH, NODE_COMPILE_CACHE } = process.env
  const env = { PATH, NODE_COMPILE_CACHE, LENSERFIGHT_HOME: config.profileFolder, LF_GATEWAY_PORT: '0' }
  const child = spawn(program, [], {
    env: { ...env, LF_GATEWAY_KEY_FILE_FALLBACK: '1' },
    stdio: ['ignore', fd, 'ignore'],
  })
  closeSync(fd)
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  t.teardown(() => child.kill('SIGKILL'))
  await until(() => readFileSync(log, 'utf8').includes('"event":"started"'))
  return { child, ended, log }
}

const statusOf = async (config: Config): Promise<Readonly<Record<string, unknown>>> => {
  const client = await connectDaemon(config.socket)
  try {
    return await client.request('status', {})
  } finally {
    client.close()
  }
}

/** Events that the daemons of this machine have yet to tell. */
const eventsOf = (config: Config): string[] => {
  const { store } = openState(config)
  try {
    const rows = store.all<{ body: string }>(`SELECT body FROM operations WHERE kind = 'lifecycle' ORDER BY rowid`)
    return rows.map(({ body }) => (JSON.parse(body) as { event: string }).event)
  } finally {
    store.close()
  }
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test.serial(
    `${signal} stops the daemon orderly: exit code 0, its end to be told, no socket and no token left`,
    async (t) => {
      t.timeout(240_000)
      const config = await newMachine()
      const { child, ended } = await serve(t, config)
      t.true(existsSync(config.socket) && existsSync(config.tokenFile))
      child.kill(signal)
      t.deepEqual(await ended, [0, null])
      t.deepEqual([existsSync(config.socket), existsSync(config.tokenFile)], [false, false])
      t.deepEqual(eventsOf(config), ['start', 'stop'])
    },
  )
}

/** Both signals are there before the process goes on, so that the second always comes while the first is seen to. */
const signalTwice = (child: ChildProcess): void => {
  for (const signal of ['SIGSTOP', 'SIGTERM', 'SIGINT', 'SIGCONT'] as const) child.kill(signal)
}

test.serial(
  'a second signal ends the daemon at once with exit code 1, and the next starts over what it left',
  async (t) => {
    t.timeout(240_000)
    const config = await newMachine()
    const { child, ended, log } = await serve(t, config)
    signalTwice(child)
    t.deepEqual(await ended, [1, null])
    t.regex(readFileSync(log, 'utf8'), /"exiting at once"/)
    const next = await serve(t, config)
    t.is((await statusOf(config)).pid, next.child.pid)
  },
)

test.serial(
  'what a killed daemon leaves, socket and token, keeps no other from starting, and opens nothing',
  async (t) => {
    t.timeout(240_000)
    const config = await newMachine()
    const { child, ended } = await serve(t, config)
    const left = readFileSync(config.tokenFile, 'utf8').trim()
    child.kill('SIGKILL')
    t.deepEqual(await ended, [null, 'SIGKILL'])
    t.deepEqual([existsSync(config.socket), existsSync(config.tokenFile)], [true, true])
    await t.throwsAsync(statusOf(config), { code: 'daemon_unreachable' })
    const next = await serve(t, config)
    const { pid, binds } = await statusOf(config)
    t.is(pid, next.child.pid)
    const ask = async (token: string) =>
      (await fetch(`http://${String(binds)}/identity`, { headers: { authorization: `Bearer ${token}` } })).status
    t.deepEqual([await ask(left), await ask(readFileSync(config.tokenFile, 'utf8').trim())], [401, 200])
  },
)

test.serial('a daemon whose state folder is taken away ends by itself, with the reason', async (t) => {
  t.timeout(240_000)
  const config = await newMachine()
  const { ended, log } = await serve(t, config)
  rmSync(config.profileFolder, { recursive: true })
  t.deepEqual(await ended, [1, null])
  t.regex(readFileSync(log, 'utf8'), /"event":"failed","reason":"state_unwritable".*is gone or another/)
  t.false(existsSync(config.profileFolder), 'it makes nothing there')
})

test.serial('a daemon that ends after its state folder was replaced leaves the next daemon reachable', async (t) => {
  t.timeout(240_000)
  const config = await newMachine()
  const old = await serve(t, config)
  // So that its end comes when the next one is there, as a signal to it does.
  old.child.kill('SIGSTOP')
  rmSync(config.profileFolder, { recursive: true })
  await enrol(config)
  const next = await serve(t, config)
  const token = readFileSync(config.tokenFile, 'utf8')
  for (const signal of ['SIGTERM', 'SIGCONT'] as const) old.child.kill(signal)
  await old.ended
  t.is((await statusOf(config)).pid, next.child.pid)
  t.is(readFileSync(config.tokenFile, 'utf8'), token)
  t.deepEqual(eventsOf(config), ['start'], 'what it says at its end is no business of this folder’s device')
})

/** The kernel refuses this process to make any file longer, as a full disk or a quota would, until it is allowed again. */
const fillDisk = ({ pid }: ChildProcess, isFull: boolean): void => {
  execFileSync('prlimit', ['--pid', String(pid), `--fsize=${isFull ? '1' : 'unlimited'}:unlimited`])
}

const onLinux = process.platform === 'linux' ? test.serial : test.skip

onLinux(
  'on a full disk, its log’s too, the daemon refuses what it cannot keep, and goes on when there is room',
  async (t) => {
    t.timeout(240_000)
    const config = await newMachine()
    const { child, ended, log } = await serve(t, config)
    const client = await connectDaemon(config.socket)
    t.teardown(client.close)
    const ask = () => client.request('run.complete', { attestation, timeout_ms: 0 })
    const openNow = async () => ((await client.request('status', {})).outbox as { open: number }).open
    const before = await openNow()

    fillDisk(child, true)
    const { length } = readFileSync(log, 'utf8')
    for (let times = 0; times < 3; times += 1) await t.throwsAsync(ask(), { code: 'state_unwritable' })
    // Long enough for several lines about a gateway that is not there.
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    t.is(readFileSync(log, 'utf8').length, length, 'nothing could be logged')
    t.is(await openNow(), before, 'what was refused is not kept')

    fillDisk(child, false)
    await ask()
    t.is(await openNow(), before + 1, 'what is not refused is')
    await until(() => readFileSync(log, 'utf8').length > length)
    child.kill('SIGTERM')
    t.deepEqual(await ended, [0, null])
    t.deepEqual(eventsOf(config), ['start', 'stop'])
  },
)

onLinux(
  'a daemon whose disk is full stops when told to, and its exit code says that its end is not on record',
  async (t) => {
    t.timeout(240_000)
    const config = await newMachine()
    const { child, ended } = await serve(t, config)
    fillDisk(child, true)
    child.kill('SIGTERM')
    t.deepEqual(await ended, [1, null])
    t.deepEqual(eventsOf(config), ['start'])
    const next = await serve(t, config)
    t.is((await statusOf(config)).pid, next.child.pid)
  },
)
