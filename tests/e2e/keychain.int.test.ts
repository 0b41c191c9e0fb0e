import { readdirSync, readFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { createSettings, openStore } from '@lenserfight/daemon/client'
import { decodeKey } from '@lenserfight/envelope'
import { type Keychain, openKeychain } from '@lenserfight/keychain'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type SecretService, startSecretService, whyNoSecretService } from '@lenserfight/testkit/secret-service'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { methods } from '../../edge/daemon/src/socket/protocol.ts'
import { Machine, until } from './_machine.ts'

interface Enrolled {
  readonly stack: Stack
  readonly service: SecretService
  readonly machine: Machine
  readonly keychain: Keychain
  /** Every private key of this machine, by the name under which the keychain has it. */
  readonly seeds: Map<string, string>
}
interface Given {
  why: string | undefined
  enrolled: Enrolled | undefined
  stop: (() => Promise<unknown>)[]
}
const test = anyTest as TestFn<Given>
/** All that was said, by the words that asked for it. */
const said = new Map<string, string>()

const lf = async (machine: Machine, ...words: string[]): Promise<{ code: number | string | null; stderr: string }> => {
  const { code, stdout, stderr } = await machine.lf(words)
  said.set(`lf ${words.join(' ')}`, `${stdout}${stderr}`)
  return { code, stderr }
}
const keysIn = (machine: Machine): string[] => readdirSync(join(machine.state, 'keys')).sort()

/** The keys that there are now, beside those that were. */
const learnSeeds = async ({ machine, keychain, seeds }: Enrolled): Promise<void> => {
  for (const name of keysIn(machine).map((file) => file.replace(/\.backend$/, ''))) {
    const seed = await keychain.get(name)
    if (seed !== undefined) seeds.set(name, seed)
  }
}

test.before('a machine with a real Secret Service is enrolled, and runs something', async (t) => {
  // It may be installed first.
  t.timeout(300_000)
  const why = await whyNoSecretService()
  t.context = { why, enrolled: undefined, stop: [] }
  if (why !== undefined) return
  const service = await startSecretService()
  t.context.stop.push(service.stop)
  const stack = await testStack()
  t.context.stop.push(() => stack.stop())
  await stack.whenReady()
  const machine = new Machine(stack, 'kept', { ...service.env, LF_GATEWAY_KEY_FILE_FALLBACK: '0' })
  t.context.stop.unshift(() => machine.end('SIGTERM'))
  await machine.enrol('alice', 'kept')
  const options = { fileFallback: undefined, folder: join(machine.state, 'keys'), warn: () => {}, env: service.env }
  const keychain = await openKeychain({ ...options, deadlineMs: 60_000 })
  t.context.enrolled = { stack, service, machine, keychain, seeds: new Map() }
  await learnSeeds(t.context.enrolled)
})
test.after.always('nothing stays', async (t) => {
  for (const stop of t.context.stop) await stop()
})

const enrolledOf = (t: ExecutionContext<Given>): Enrolled | undefined => {
  if (t.context.enrolled === undefined) {
    t.log(`not tested here: ${t.context.why}`)
    t.pass()
  }
  return t.context.enrolled
}

test.serial('CO-4: an enrolled machine’s keys are in the OS keychain, and the state says only where', async (t) => {
  const enrolled = enrolledOf(t)
  if (enrolled === undefined) return
  const { machine, keychain, seeds } = enrolled
  // The device's key, and the session's.
  t.true([...seeds.keys()].some((name) => name.startsWith('session-')))
  t.true(seeds.size >= 2)
  for (const [name, seed] of seeds) {
    t.is(decodeKey(seed).length, 32, name)
    t.is(readFileSync(join(machine.state, 'keys', `${name}.backend`), 'utf8'), `${keychain.backend}\n`)
  }
  t.deepEqual(
    keysIn(machine).filter((file) => !file.endsWith('.backend')),
    [],
  )
  const store = openStore(join(machine.state, 'state.db'))
  const identity = createSettings(store).get('identity')
  store.close()
  t.true(seeds.has(identity?.key_name as string))
})

/** A seed in every form in which it could have been written down. */
const formsOf = (seed: string): readonly string[] => {
  const raw = Buffer.from(seed, 'base64url')
  const texts = [
    seed,
    raw.toString('base64').replace(/=+$/, ''),
    raw.toString('hex'),
    raw.toString('hex').toUpperCase(),
  ]
  // In latin1 a text has one character a byte, so that raw bytes are looked for in the same way.
  return [...texts, raw.toString('latin1'), ...texts.map((text) => Buffer.from(text).toString('hex'))]
}
const holdsAny = (text: string, seeds: Iterable<string>): boolean =>
  [...seeds].some((seed) => formsOf(seed).some((form) => text.includes(form)))

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

/** What the daemon answers on its socket, as bytes. */
const askSocket = (path: string, line: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = createConnection(path, () => socket.write(`${line}\n`))
    let text = ''
    socket.setTimeout(60_000, () => socket.destroy(new Error('no answer')))
    socket.setEncoding('utf8').on('data', (data: string) => {
      text += data
      if (text.includes('\n')) socket.end(() => resolve(text))
    })
    socket.on('error', reject)
  })

const tables = `SELECT format('SELECT to_jsonb(t)::text AS row FROM %I.%I AS t', n.nspname, c.relname) AS dump
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`

test.serial('SH-1: no command, no socket method and no page shows a private key', async (t) => {
  const enrolled = enrolledOf(t)
  if (enrolled === undefined) return
  const { machine, seeds } = enrolled
  await lf(machine, 'run', '--', 'true')
  for (const words of [
    ['whoami'],
    ['sessions'],
    ['config', 'list'],
    ['gateway', 'status'],
    ['gateway', 'doctor'],
    ['gateway', 'devices'],
    ['gateway', 'identity', 'show'],
    ['gateway', 'identity', 'export-public'],
    ['gateway', 'identity', 'init'],
  ]) {
    await Promise.all([lf(machine, ...words), lf(machine, ...words, '--json')])
  }
  const given = { timeout_ms: 5_000, run: {}, attestation: {}, op_id: 'none', outcome: { ok: true, result: {} } }
  for (const [method, schema] of Object.entries(methods)) {
    const names = Object.keys((schema as { properties: object }).properties)
    const params = Object.fromEntries(Object.entries(given).filter(([name]) => names.includes(name)))
    said.set(
      `socket ${method}`,
      await askSocket(join(machine.state, 'daemon.sock'), JSON.stringify({ id: 1, method, params })),
    )
  }
  const { result } = JSON.parse(said.get('socket status') as string) as { result: { binds?: string[] } }
  t.log(result.binds)
  const authorization = `Bearer ${readFileSync(join(machine.state, 'daemon.token'), 'utf8').trim()}`
  for (const bind of result.binds ?? []) {
    for (const page of ['healthz', 'status', 'identity', 'outbox']) {
      const response = await fetch(`http://${bind}/${page}`, { headers: { authorization } })
      t.is(response.status, 200, page)
      said.set(page, await response.text())
    }
  }
  t.true(said.size > 20)
  await learnSeeds(enrolled)
  for (const [asked, text] of said) {
    t.not(text, '', asked)
    t.false(holdsAny(text, seeds.values()), asked)
  }
})

test.serial('SH-1: no file, no log, no stream and no table holds a private key in any form', async (t) => {
  const enrolled = enrolledOf(t)
  if (enrolled === undefined) return
  const { stack, service, machine, seeds } = enrolled
  // What is looked for in this way is found where it is.
  const [seed] = [...seeds.values()]
  for (const form of formsOf(seed as string)) t.true(holdsAny(`…${form}…`, seeds.values()))

  const files = [machine.home, stack.dir, stack.logDir, service.home].flatMap(filesIn)
  t.true(files.some((file) => file.endsWith('state.db')))
  t.true(files.some((file) => file.endsWith('.keyring')))
  for (const file of files) {
    let text: string
    try {
      text = readFileSync(file, 'latin1')
    } catch {
      // The database and the broker remove files while they run.
      continue
    }
    t.false(holdsAny(text, seeds.values()), file)
  }
  t.false(holdsAny(machine.log, seeds.values()))

  const rows = await withClient(stack.owner, async (client) => {
    const all: string[] = []
    for (const { dump } of (await client.query<{ dump: string }>(tables)).rows) {
      all.push(...(await client.query<{ row: string }>(dump)).rows.map(({ row }) => row))
    }
    return all
  })
  t.true(rows.length > 100)
  t.true(rows.some((row) => row.includes('"kept"')))
  for (const row of rows) t.false(holdsAny(row, seeds.values()))
})

test.serial('CO-4: a daemon whose keychain is locked or gone does not start, and says what to do', async (t) => {
  const enrolled = enrolledOf(t)
  if (enrolled === undefined) return
  const { machine, service } = enrolled
  await machine.end('SIGTERM')
  await service.lock()
  const locked = await lf(machine, 'gateway', 'serve')
  t.is(locked.code, 1)
  t.regex(`${locked.stderr}${said.get('lf gateway serve')}`, /keychain_locked.*Unlock it/)
  await service.end()
  const gone = await lf(machine, 'gateway', 'serve')
  t.is(gone.code, 1)
  t.regex(`${gone.stderr}${said.get('lf gateway serve')}`, /keychain_unavailable.*apt-get install gnome-keyring/)
  t.false(/\n {4}at /.test(`${locked.stderr}${gone.stderr}`))
  await service.start()
  await machine.serve()
  await until(async () => (await machine.status()).connection === 'connected')
})
