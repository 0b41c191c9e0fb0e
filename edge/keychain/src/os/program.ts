/**
 * The process in which the keychain's libraries run: they call foreign code that may never return, and a thread that
 * waits in it would hold up the end of whoever loaded it. It answers one request and ends; it may be killed at any time.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type OsAnswer, type OsBackend, type OsRequest, osBackends, serviceName } from './protocol.ts'

interface Library {
  readonly get: (name: string) => Promise<string | null>
  readonly set: (name: string, secret: string) => Promise<void>
  readonly delete: (name: string) => Promise<unknown>
}

const loadKeytar = async (): Promise<Library> => {
  const { default: keytar } = await import('keytar')
  return {
    get: (name) => keytar.getPassword(serviceName, name),
    set: (name, secret) => keytar.setPassword(serviceName, name, secret),
    delete: (name) => keytar.deletePassword(serviceName, name),
  }
}

const loadNapi = async (): Promise<Library> => {
  const { AsyncEntry } = await import('@napi-rs/keyring')
  // Left to itself it falls back to the kernel's keyring, which forgets everything when the machine stops.
  const entry = (name: string) => new AsyncEntry(serviceName, name, { linux: { store: 'secret-service' } })
  return {
    get: (name) => entry(name).getPassword(),
    set: (name, secret) => entry(name).setPassword(secret),
    delete: (name) => entry(name).deleteCredential(),
  }
}

const loaders: Readonly<Record<OsBackend, () => Promise<Library>>> = { keytar: loadKeytar, napi: loadNapi }

const load = (backend: OsBackend): Promise<Library | undefined> => loaders[backend]().catch(() => undefined)

/**
 * What is written to find out whether a keychain can be written to; no secret. It stays there: were it removed, whoever
 * asks at the same time would meet it half gone, and take the keychain for broken.
 */
const probe = 'probe'

/**
 * A locked Secret Service answers that there is nothing of that name. Only what cannot be written tells the two apart.
 * @throws what the library throws where it is locked
 */
const checkUnlocked = async (library: Library): Promise<void> => {
  if (process.platform !== 'linux') return
  await library.set(probe, probe)
}

const getFrom = async (library: Library, name: string): Promise<string | null> => {
  const secret = await library.get(name)
  if (secret === null) await checkUnlocked(library)
  return secret
}

const absent: OsAnswer = { ok: false, why: 'absent' }

const open = async (): Promise<OsAnswer> => {
  for (const backend of osBackends) {
    const library = await load(backend)
    if (library === undefined) continue
    await getFrom(library, probe)
    return { ok: true, backend, secret: null }
  }
  return absent
}

const get = async (backends: readonly OsBackend[], name: string): Promise<OsAnswer> => {
  let asked: OsBackend | undefined
  for (const backend of backends) {
    const library = await load(backend)
    if (library === undefined) continue
    asked ??= backend
    const secret = await getFrom(library, name)
    if (secret !== null) return { ok: true, backend, secret }
  }
  return asked === undefined ? absent : { ok: true, backend: asked, secret: null }
}

const set = async (backend: OsBackend, name: string, secret: string): Promise<OsAnswer> => {
  const library = await load(backend)
  if (library === undefined) return absent
  await library.set(name, secret)
  const kept = (await library.get(name)) === secret
  return kept ? { ok: true, backend, secret: null } : { ok: false, why: 'not_kept' }
}

const remove = async (backends: readonly OsBackend[], name: string): Promise<OsAnswer> => {
  let asked: OsBackend | undefined
  for (const backend of backends) {
    const library = await load(backend)
    if (library === undefined) continue
    asked ??= backend
    await library.delete(name)
    if ((await getFrom(library, name)) !== null) return { ok: false, why: 'not_kept' }
  }
  return asked === undefined ? absent : { ok: true, backend: asked, secret: null }
}

const answer = async (request: OsRequest): Promise<OsAnswer> => {
  try {
    if (request.op === 'open') return await open()
    if (request.op === 'get') return await get(request.backends, request.name)
    if (request.op === 'set') return await set(request.backend, request.name, request.secret)
    return await remove(request.backends, request.name)
  } catch (error) {
    const message = String((error as Error | null)?.message ?? error)
    const secret = request.op === 'set' ? request.secret : undefined
    return { ok: false, why: 'failed', message: secret === undefined ? message : message.replaceAll(secret, '…') }
  }
}

/** Ends at once, without waiting for a thread that is in foreign code. */
const end = (): void => {
  process.kill(process.pid, 'SIGKILL')
}

const lines = createInterface({ input: process.stdin })
lines.once('line', async (line) => {
  writeSync(3, `${JSON.stringify(await answer(JSON.parse(line) as OsRequest))}\n`)
  end()
})
// Whoever asked is gone.
lines.once('close', end)
