import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { encodeKey, generateKeyPair } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import test from 'ava'
import { enrol, newConfig, uuid } from './_enrolled.ts'
import { boot, openState } from './boot.ts'
import { readEdgeConfig } from './config.ts'
import { startDaemon } from './daemon.ts'

const logger = createLogger({ service: 'test', level: 'silent' as never })
const main = fileURLToPath(new URL('./main.mjs', import.meta.url))
// What the run's other processes compiled: a profile of its own would have all of it compiled again.
const { PATH, NODE_COMPILE_CACHE } = process.env
const warn = (): void => {}

type Config = ReturnType<typeof newConfig>

/** The code that a program's last line on standard error begins with. */
const lastLine = (stderr: string): string | undefined => stderr.trim().split('\n').at(-1)?.split(':')[0]

const daemon = (config: Config, env: Record<string, string> = {}) =>
  spawnSync(process.execPath, [main], {
    env: { PATH, NODE_COMPILE_CACHE, LENSERFIGHT_HOME: config.profileFolder, LF_GATEWAY_PORT: '0', ...env },
    encoding: 'utf8',
    timeout: 110_000,
  })

// Alone: the umask is the process's own.
test.serial('CO-3: state folder 0700, every file in it 0600, whatever the umask', async (t) => {
  const config = newConfig()
  await enrol(config)
  const before = process.umask(0)
  const running = await startDaemon({ config, logger, warn })
  process.umask(before)
  t.teardown(running.stop)
  t.is(statSync(config.stateFolder).mode & 0o777, 0o700)
  const modes = readdirSync(config.stateFolder).flatMap((name): [string, number][] => {
    const entry = statSync(join(config.stateFolder, name), { throwIfNoEntry: false })
    // What is written beside a file to take its place may have taken it meanwhile.
    return entry === undefined ? [] : [[name, entry.mode & 0o777]]
  })
  t.true(modes.length > 4)
  for (const [name, mode] of modes) t.is(mode, name === 'keys' ? 0o700 : 0o600, name)
})

test('CO-3: a state folder or a file in it that others can reach keeps the daemon from starting', async (t) => {
  const folder = newConfig()
  await enrol(folder)
  chmodSync(folder.stateFolder, 0o755)
  await t.throwsAsync(boot(folder, warn), { code: 'insecure_permissions' })
  const file = newConfig()
  await enrol(file)
  chmodSync(file.stateFile, 0o644)
  await t.throwsAsync(boot(file, warn), { code: 'insecure_permissions' })
  const stranger = newConfig()
  await enrol(stranger)
  writeFileSync(join(stranger.stateFolder, 'anything'), '', { mode: 0o604 })
  chmodSync(join(stranger.stateFolder, 'anything'), 0o604)
  await t.throwsAsync(boot(stranger, warn), { code: 'insecure_permissions' })
})

test('SH-4: the daemon does not start with a service_role credential in environment, configuration or profile', async (t) => {
  const config = newConfig()
  await enrol(config)
  const jwt = `eyJhbGciOiJIUzI1NiJ9.${Buffer.from('{"role":"service_role"}').toString('base64url')}.c2ln`
  const byEnvironment = daemon(config, { SUPABASE_SERVICE_ROLE_KEY: 'x' })
  t.is(byEnvironment.status, 1)
  t.regex(byEnvironment.stderr, /^service_role_in_daemon: /)
  t.regex(daemon(config, { SOME_KEY: jwt }).stderr, /^service_role_in_daemon: /)

  writeFileSync(config.configFile, JSON.stringify({ key: jwt }), { mode: 0o600 })
  const byFile = daemon(config)
  t.regex(byFile.stderr, /^service_role_in_daemon: /)
  t.false(byFile.stderr.includes(jwt))
  writeFileSync(config.configFile, '{}')
  writeFileSync(config.profileFile, JSON.stringify({ service_role: 'x' }), { mode: 0o600 })
  t.regex(daemon(config).stderr, /^service_role_in_daemon: /)
})

test('the checklist refuses in order, each with its code', async (t) => {
  const config = newConfig()
  await t.throwsAsync(boot(config, warn), { code: 'not_enrolled' })
  t.is(daemon(config).status, 5)

  await enrol(config)
  const first = await boot(config, warn)
  const second = daemon(config, { LF_GATEWAY_KEY_FILE_FALLBACK: '1' })
  t.regex(second.stderr, /^daemon_running: /)
  first.release()

  await t.throwsAsync(boot({ ...config, fileFallback: undefined }, warn), { code: 'keychain_unavailable' })
  writeFileSync(join(config.keysFolder, 'device-1.key'), encodeKey(generateKeyPair().privateKey))
  await t.throwsAsync(boot(config, warn), { code: 'key_missing' })

  const elsewhere = newConfig()
  await enrol(elsewhere, { gateway_id: uuid('d') })
  await t.throwsAsync(boot(elsewhere, warn), { code: 'descriptor_changed' })
  const { store, settings } = openState(elsewhere)
  settings.delete('descriptor')
  store.close()
  await t.throwsAsync(boot(elsewhere, warn), { code: 'descriptor_missing' })
})

test('what the configuration file may say is closed', (t) => {
  const config = newConfig()
  mkdirSync(config.stateFolder, { recursive: true, mode: 0o700 })
  const read = (text: string) => {
    writeFileSync(config.configFile, text, { mode: 0o600 })
    return () => readEdgeConfig({ LENSERFIGHT_HOME: config.profileFolder })
  }
  t.is(read('{"heartbeat_ms": 50}')().heartbeatMs, 50)
  for (const text of ['{"heartbeat": 50}', '{"heartbeat_ms": 0}', '[]', 'x', '{"reconnect": {"floor_ms": 10}}']) {
    t.throws(read(text), { code: 'config_invalid' }, text)
  }
  chmodSync(config.configFile, 0o644)
  t.throws(() => readEdgeConfig({ LENSERFIGHT_HOME: config.profileFolder }), { code: 'insecure_permissions' })
})

test('a damaged setting is told, never taken for none', async (t) => {
  const config = newConfig()
  await enrol(config)
  const { store, settings } = openState(config)
  store.run(`UPDATE settings SET value = '{"key_name":1}' WHERE key = 'identity'`)
  t.throws(() => settings.get('identity'), { code: 'state_unwritable' })
  store.close()
})

test('without a gateway the daemon runs, says so, and stops at once when asked to', async (t) => {
  const config = newConfig()
  await enrol(config)
  const running = await startDaemon({ config, logger, warn })
  const { connectDaemon } = await import('./socket/client.ts')
  const client = await connectDaemon(running.socket)
  for (const end = Date.now() + 30_000; Date.now() < end; ) {
    if ((await client.request('status', {})).connection === 'disconnected') break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const status = await client.request('status', {})
  t.deepEqual([status.connection, status.code, status.trust_level], ['disconnected', 'gateway_unreachable', null])
  const run = { command_hash: 'A'.repeat(43), inputs: [] }
  await t.throwsAsync(client.request('run.permit', { run, timeout_ms: 50 }), { code: 'gateway_unreachable' })
  const { open } = (await client.request('status', {})).outbox as { open: number }
  t.is(open, 1, 'the event of its start')
  await t.throwsAsync(client.request('run.permit', { run: { command_hash: 'x' }, timeout_ms: 50 }), {
    code: 'malformed_body',
  })
  client.close()
  const started = performance.now()
  await running.stop()
  // Whatever it tries takes longer, and goes on for ever.
  t.true(performance.now() - started < 5_000)
})

test('LH-2 LH-3: a bind that is not loopback keeps the daemon from starting, and a port that is taken too', async (t) => {
  const config = newConfig()
  await enrol(config)
  const env = { LF_GATEWAY_KEY_FILE_FALLBACK: '1' }
  for (const bind of ['0.0.0.0', '::', '0', '']) {
    const refused = daemon(config, { ...env, LF_GATEWAY_BIND: bind })
    t.deepEqual([refused.status, lastLine(refused.stderr)], [1, 'public_bind_forbidden'], bind)
  }
  const running = await startDaemon({ config, logger, warn })
  t.teardown(running.stop)
  const [, port = ''] = running.binds[0]?.split(':') ?? []
  const other = newConfig()
  await enrol(other)
  const refused = daemon(other, { ...env, LF_GATEWAY_PORT: port })
  t.deepEqual([refused.status, lastLine(refused.stderr)], [1, 'port_in_use'])
  t.regex(daemon(other, { ...env, LF_GATEWAY_PORT: '65536' }).stderr, /^config_invalid: /)
})

test('LH-1 LH-3: by default it binds 127.0.0.1:38080 alone, and its log names what it binds', async (t) => {
  const { bind, port } = readEdgeConfig({ LENSERFIGHT_HOME: newConfig().profileFolder })
  t.deepEqual([bind, port], ['127.0.0.1', 38080])
  const config = newConfig()
  await enrol(config)
  const env = { PATH, NODE_COMPILE_CACHE, LENSERFIGHT_HOME: config.profileFolder, LF_GATEWAY_PORT: '0' }
  const child = spawn(process.execPath, [main], { env: { ...env, LF_GATEWAY_KEY_FILE_FALLBACK: '1' } })
  t.teardown(() => child.kill('SIGKILL'))
  let log = ''
  for await (const text of child.stdout.setEncoding('utf8')) {
    log += text
    // A line may come in parts.
    if (/"event":"started".*\n/.test(log)) break
  }
  const line = log.split('\n').find((each) => each.includes('"event":"started"')) ?? '{}'
  const { binds } = JSON.parse(line) as { binds?: string[] }
  t.is(binds?.length, 1)
  t.regex(binds?.[0] ?? '', /^127\.0\.0\.1:\d+$/)
})

test('the loopback listener shows health to anybody, and to its user public identity and what is pending, and no private key', async (t) => {
  const config = newConfig()
  await enrol(config)
  const running = await startDaemon({ config, logger, warn })
  t.teardown(running.stop)
  const authorization = `Bearer ${readFileSync(config.tokenFile, 'utf8').trim()}`
  const ask = (page: string, headers = {}) => fetch(`http://${running.binds[0]}${page}`, { headers })
  const read = async (page: string) => (await ask(page, { authorization })).json() as Promise<object>
  t.deepEqual(await (await ask('/healthz')).json(), { status: 'ok' })
  for (const page of ['/status', '/identity', '/outbox']) t.is((await ask(page)).status, 401, page)
  const { time, daemon_version, ...status } = (await read('/status')) as Record<string, unknown>
  t.true(Math.abs(Number(time) - Date.now() / 1000) < 60)
  t.regex(String(daemon_version), /^\d+\.\d+\.\d+$/)
  t.is(status.device_id, uuid('c'))
  t.deepEqual(await read('/outbox'), { pending: 1 }, 'the event of its start')
  const secret = readFileSync(join(config.keysFolder, 'device-1.key'), 'utf8').trim()
  const identity = JSON.stringify(await read('/identity'))
  t.true(identity.includes(uuid('c')))
  t.false(identity.includes(secret))
})

test('a refused start is kept for the next daemon to tell: the same within an hour once, and not where nobody is enrolled', async (t) => {
  const config = newConfig()
  await enrol(config)
  const env = { LF_GATEWAY_KEY_FILE_FALLBACK: '1' }
  const told = () => {
    const { store } = openState(config)
    const rows = store.all<{ body: string }>(`SELECT body FROM operations WHERE kind = 'lifecycle' ORDER BY rowid`)
    store.close()
    return rows.map(({ body }) => JSON.parse(body) as { event: string; code: string })
  }
  daemon(config, { ...env, LF_GATEWAY_BIND: '0.0.0.0' })
  daemon(config, { ...env, LF_GATEWAY_BIND: '::' })
  daemon(config, { SUPABASE_SERVICE_ROLE_KEY: 'x' })
  daemon(config)
  t.deepEqual(
    told().map(({ event, code }) => [event, code]),
    [
      ['refusal', 'public_bind_forbidden'],
      ['refusal', 'service_role_in_daemon'],
      ['refusal', 'keychain_unavailable'],
    ],
  )
  const unknown = newConfig()
  t.is(daemon(unknown, { ...env, SUPABASE_SERVICE_ROLE_KEY: 'x' }).status, 1)
  t.false(existsSync(unknown.stateFile))
})
