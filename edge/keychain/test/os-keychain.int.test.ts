import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey } from '@lenserfight/envelope'
import { CodedError, type ReasonCode } from '@lenserfight/schemas'
import { type SecretService, startSecretService, whyNoSecretService } from '@lenserfight/testkit/secret-service'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { ensureKeyPair, type Keychain, type KeychainBackend, openKeychain, readKeyPair } from '../src/index.ts'
import { askOs, type OsOptions } from '../src/os/ask.ts'
import type { OsBackend } from '../src/os/protocol.ts'

const test = anyTest as TestFn<{ service: SecretService | undefined; why: string | undefined; folders: string[] }>

test.before('a Secret Service', async (t) => {
  // It may be installed first.
  t.timeout(300_000)
  const why = await whyNoSecretService()
  t.context = { why, service: undefined, folders: [] }
  if (why === undefined) t.context.service = await startSecretService()
})
test.after.always('nothing stays', async (t) => {
  await t.context.service?.stop()
  for (const folder of t.context.folders) rmSync(folder, { recursive: true, force: true })
})

type Given = ExecutionContext<{ service: SecretService | undefined; why: string | undefined; folders: string[] }>

const folderOf = (t: Given): string => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-os-keys-'))
  t.context.folders.push(folder)
  return join(folder, 'keys')
}
/** The service, or undefined where there can be none here: then the test says so. */
const serviceOf = (t: Given): SecretService | undefined => {
  if (t.context.service === undefined) {
    t.log(`not tested here: ${t.context.why}`)
    t.pass()
  }
  return t.context.service
}
const quiet = (): void => {}
/** Generous: what is measured is that it ends, on a busy machine too. */
const deadlineMs = 60_000
const openIn = (env: NodeJS.ProcessEnv, folder: string, fileFallback?: string): Promise<Keychain> =>
  openKeychain({ fileFallback, folder, warn: quiet, env, deadlineMs })
const os = (env: NodeJS.ProcessEnv): OsOptions => ({
  platform: 'linux',
  hasDisplay: false,
  deadlineMs,
  env,
  onWait: quiet,
})

/** The libraries that load here: keytar is left out where libsecret is not. */
const loadable = async (env: NodeJS.ProcessEnv): Promise<OsBackend[]> => {
  const found: OsBackend[] = []
  for (const backend of ['keytar', 'napi'] as const) {
    const loads = await askOs({ op: 'get', backends: [backend], name: 'none' }, os(env)).then(
      () => true,
      () => false,
    )
    if (loads) found.push(backend)
  }
  return found
}

const secret = 'c2VjcmV0LXNlZWQtb2YtdGhpcnR5LXR3by1ieXRlcy4'

test.serial('CO-4: a key is kept in the OS keychain, read again, replaced and deleted; no file holds it', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  const folder = folderOf(t)
  const keychain = await openIn(service.env, folder)
  t.true((['keytar', 'napi'] as KeychainBackend[]).includes(keychain.backend))
  t.is(await keychain.get('device-1'), undefined)
  const made = await ensureKeyPair(keychain, 'device-1')
  const again = await readKeyPair(await openIn(service.env, folder), 'device-1')
  t.is(encodeKey(again.privateKey), encodeKey(made.privateKey))
  t.deepEqual(readdirSync(folder), ['device-1.backend'])
  t.is(readFileSync(join(folder, 'device-1.backend'), 'utf8'), `${keychain.backend}\n`)
  await keychain.set('device-1', secret)
  t.is(await keychain.get('device-1'), secret)
  await keychain.delete('device-1')
  await keychain.delete('device-1')
  t.is(await keychain.get('device-1'), undefined)
  t.deepEqual(readdirSync(folder), [])
})

test.serial('each library keeps and finds its own, and a key stays with the one that holds it', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  const backends = await loadable(service.env)
  t.true(backends.includes('napi'))
  if (!backends.includes('keytar')) t.log('keytar is not installed here: napi alone')
  for (const backend of backends) {
    const name = `kept-by-${backend}`
    await askOs({ op: 'set', backend, name, secret }, os(service.env))
    const folder = folderOf(t)
    // Nothing is remembered: each is asked.
    t.is(await (await openIn(service.env, folder)).get(name), secret)
    for (const other of backends.filter((one) => one !== backend)) {
      const { secret: found } = await askOs({ op: 'get', backends: [other], name }, os(service.env))
      t.is(found, null, 'an entry of one library is not the other’s')
    }
  }
})

test.serial('many may ask at once for what is not there', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  for (const backend of await loadable(service.env)) {
    const request = { op: 'get', backends: [backend], name: 'none' } as const
    const said = await Promise.all(Array.from({ length: 12 }, () => askOs(request, os(service.env))))
    t.true(said.every(({ secret: found }) => found === null))
  }
})

test.serial('a key is read from the library that is remembered, whichever is preferred now', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  const folder = folderOf(t)
  const keychain = await openIn(service.env, folder)
  await keychain.set('session-1', secret)
  for (const backend of await loadable(service.env)) {
    const name = `remembered-${backend}`
    await askOs({ op: 'set', backend, name, secret }, os(service.env))
    writeFileSync(join(folder, `${name}.backend`), `${backend}\n`, { mode: 0o600 })
    t.is(await keychain.get(name), secret)
    await keychain.set(name, `${secret}2`)
    t.is((await askOs({ op: 'get', backends: [backend], name }, os(service.env))).secret, `${secret}2`)
    // With the variable too: it is about new keys.
    const files = await openIn(service.env, folder, '1')
    t.is(files.backend, 'file')
    t.is(await files.get(name), `${secret}2`)
    await files.set(`new-${backend}`, 'in a file')
    t.is(readFileSync(join(folder, `new-${backend}.key`), 'utf8'), 'in a file\n')
    await files.delete(name)
    t.is((await askOs({ op: 'get', backends: [backend], name }, os(service.env))).secret, null)
  }
})

test.serial('a key in a file is not passed over where the variable is gone', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  const folder = folderOf(t)
  await (await openIn(service.env, folder, '1')).set('device-1', secret)
  const keychain = await openIn(service.env, folder)
  for (const use of [
    () => keychain.get('device-1'),
    () => keychain.set('device-1', 'other'),
    () => keychain.delete('device-1'),
  ]) {
    await t.throwsAsync(use(), { code: 'keychain_unavailable', message: /is in a file/ })
  }
  t.is(await (await openIn(service.env, folder, '1')).get('device-1'), secret)
})

/** What is told of a failure: a sentence that says what to do, no secret, no words of a library. */
const checkTold = (t: Given, error: unknown, code: ReasonCode, advice: RegExp): void => {
  t.true(error instanceof CodedError)
  const { code: found, message, cause } = error as CodedError
  t.is(found, code)
  t.regex(message, advice)
  t.false(message.includes(secret) || message.includes('\n') || message.includes('    at '))
  t.is(cause, undefined)
}
const failureOf = (act: Promise<unknown>): Promise<unknown> =>
  act.then(
    () => undefined,
    (error: unknown) => error,
  )

test.serial(
  'a locked keychain says so in every use, whichever library is asked, and keeps what it holds',
  async (t) => {
    const service = serviceOf(t)
    if (service === undefined) return
    const folder = folderOf(t)
    const keychain = await openIn(service.env, folder)
    const backends = await loadable(service.env)
    for (const backend of backends)
      await askOs({ op: 'set', backend, name: `locked-${backend}`, secret }, os(service.env))
    await service.lock()
    // One after the other: a service that is asked to unlock by several at once may leave one of them without an answer.
    const uses = [() => keychain.get('none'), () => keychain.set('new', secret), () => openIn(service.env, folder)]
    for (const use of uses) checkTold(t, await failureOf(use()), 'keychain_locked', /Unlock it/)
    for (const backend of backends) {
      const name = `locked-${backend}`
      for (const request of [
        { op: 'get', backends: [backend], name },
        { op: 'get', backends: [backend], name: 'none' },
        { op: 'set', backend, name, secret: 'other' },
        { op: 'delete', backends: [backend], name },
      ] as const) {
        checkTold(t, await failureOf(askOs(request, os(service.env))), 'keychain_locked', /Unlock it/)
      }
    }
    // On a screen somebody was asked, and did not allow it.
    const asked = { ...os(service.env), hasDisplay: true }
    checkTold(
      t,
      await failureOf(askOs({ op: 'get', backends: ['napi'], name: 'locked-napi' }, asked)),
      'keychain_refused',
      /Allow/,
    )
    t.false(readdirSync(folder).includes('new.backend'), 'what was not kept is not remembered')
    await service.end()
    await service.start()
    for (const backend of backends) {
      const found = await askOs({ op: 'get', backends: [backend], name: `locked-${backend}` }, os(service.env))
      t.is(found.secret, secret)
    }
  },
)

test.serial('a service that dies in between is told, and found again when it is back', async (t) => {
  const service = serviceOf(t)
  if (service === undefined) return
  const keychain = await openIn(service.env, folderOf(t))
  await keychain.set('device-1', secret)
  await service.end()
  for (const use of [keychain.get('device-1'), keychain.set('device-1', 'other'), keychain.delete('device-1')]) {
    checkTold(t, await failureOf(use), 'keychain_unavailable', /Secret Service.*apt-get install gnome-keyring/)
  }
  await service.start()
  t.is(await keychain.get('device-1'), secret)
})

/** Needs no service. */
const onLinux = (t: Given): boolean => {
  if (process.platform === 'linux') return true
  t.log('not tested here: the Secret Service is Linux’s')
  t.pass()
  return false
}
const without = { PATH: process.env.PATH, HOME: '/nonexistent' }

test('without a D-Bus session nothing keeps keys, and what to install is said', async (t) => {
  if (!onLinux(t)) return
  const gone = { ...without, DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nonexistent/bus' }
  for (const env of [without, gone]) {
    checkTold(
      t,
      await failureOf(openIn(env, folderOf(t))),
      'keychain_unavailable',
      /LF_GATEWAY_KEY_FILE_FALLBACK=1.*Secret Service.*apt-get install gnome-keyring/,
    )
  }
})

const silentBus = (path: string): Promise<{ server: Server; sockets: Set<Socket> }> =>
  new Promise((resolve) => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket
        .resume()
        .on('error', () => {})
        .on('close', () => sockets.delete(socket))
    })
    server.listen(path, () => resolve({ server, sockets }))
  })

test('a D-Bus that takes the connection and never answers is given up at the deadline', async (t) => {
  if (!onLinux(t)) return
  const folder = folderOf(t)
  const path = join(mkdtempSync(join(tmpdir(), 'lf-bus-')), 'bus')
  t.context.folders.push(join(path, '..'))
  const { server, sockets } = await silentBus(path)
  t.teardown(() => server.close())
  const told: string[] = []
  const env = { ...without, DBUS_SESSION_BUS_ADDRESS: `unix:path=${path}` }
  const opened = openKeychain({
    fileFallback: undefined,
    folder,
    warn: (line) => told.push(line),
    env,
    deadlineMs: 4_000,
  })
  checkTold(t, await failureOf(opened), 'keychain_unavailable', /no answer within 4 s.*password/)
  t.is(told.length, 1)
  t.regex(told[0] as string, /may be asking for its password/)
  // The process that hung is gone with its connection.
  for (const end = Date.now() + 20_000; sockets.size > 0 && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  t.is(sockets.size, 0)
})
