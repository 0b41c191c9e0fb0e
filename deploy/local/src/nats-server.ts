import { copyFileSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { firstWritable, isOwnFolder, ownFolder } from './folders.ts'
import { fetchDebianPackage } from './nats-server-debian.ts'
import { fetchRelease, releases } from './nats-server-release.ts'
import { compareVersions, isSupported, type NatsServer, oldestSupported, versionOf } from './nats-server-version.ts'

/** `default`: the first that serves. `oldest`: of the 2.10 line. `newest`: the newest that can be had here, beyond 2.10. */
export type WantedServer = 'default' | 'oldest' | 'newest'

export interface FindOptions {
  env: LocalEnvironment
  want?: WantedServer
  /** Told, one sentence each, what is fetched and what was passed over. */
  say?: (sentence: string) => void
}

interface Source {
  what: string
  fetch(folder: string): Promise<string>
}

const remedy =
  `Set NATS_SERVER to a nats-server binary of version ${oldestSupported} or later, or put one on the PATH ` +
  '(https://github.com/nats-io/nats-server/releases, brew install nats-server, or the package of Debian 13).'

/**
 * Finds a nats-server, or fetches one into the user's cache: `NATS_SERVER`, the PATH, the cache, the official release by
 * pinned digest, the package of a newer Debian suite. The version is what the binary itself states.
 * @throws {LocalError} `nats_server_too_old` when `NATS_SERVER` names an unfit binary; `nats_server_missing` when nothing was found
 */
export async function ensureNatsServer(options: FindOptions): Promise<NatsServer> {
  const { env, want = 'default', say = () => {} } = options
  const found =
    (want === 'default' && (await chosen(env))) || (await onPath(env, want, say)) || (await cached(env, want))
  return found || fetchServer({ env, want, say })
}

async function chosen(env: LocalEnvironment): Promise<NatsServer | undefined> {
  if (env.natsServer === undefined) return undefined
  const version = await versionOf(env.natsServer)
  if (version === undefined || !isSupported(version)) {
    const is = version === undefined ? 'does not run' : `is version ${version}`
    throw new LocalError('nats_server_too_old', `NATS_SERVER=${env.natsServer} ${is}. ${remedy}`)
  }
  return { path: env.natsServer, version }
}

async function onPath(
  env: LocalEnvironment,
  want: WantedServer,
  say: (s: string) => void,
): Promise<NatsServer | undefined> {
  // The newest is a question about what can be fetched; what happens to be installed does not answer it.
  if (want === 'newest') return undefined
  for (const path of env.path.map((folder) => join(folder, 'nats-server')).filter(existsSync)) {
    const version = await versionOf(path)
    if (version !== undefined && fits(version, want)) return { path, version }
    say(`${path} is ${version ?? 'not runnable'}: passed over`)
  }
  return undefined
}

async function cached(env: LocalEnvironment, want: WantedServer): Promise<NatsServer | undefined> {
  const servers = env.cacheFolders
    .map((cache) => join(cache, 'nats-server'))
    // A binary from a folder in which others can write is not ours to run.
    .filter((folder) => existsSync(folder) && isOwnFolder(folder))
    .flatMap((folder) =>
      readdirSync(folder).map((version) => ({ version, path: join(folder, version, 'nats-server') })),
    )
    .filter(({ version, path }) => /^\d+\.\d+\.\d+$/.test(version) && fits(version, want) && existsSync(path))
    // The older first, so that what the default is does not change because a test fetched the newest.
    .sort((a, b) => compareVersions(a.version, b.version) * (want === 'newest' ? -1 : 1))
  for (const server of servers) {
    if ((await versionOf(server.path)) === server.version) return server
  }
  return undefined
}

async function fetchServer(options: Required<FindOptions>): Promise<NatsServer> {
  const { env, want, say } = options
  const cache = firstWritable(env.cacheFolders)
  if (cache === undefined) throw new LocalError('nats_server_missing', `no cache folder can be written to. ${remedy}`)
  const reasons: string[] = []
  for (const source of sourcesFor(want)) {
    say(`fetching nats-server: ${source.what}`)
    try {
      const server = await install(source, cache)
      if (fits(server.version, want)) return server
      reasons.push(`${source.what}: version ${server.version}`)
    } catch (error) {
      if (error instanceof LocalError && error.code === 'nats_server_digest_mismatch') throw error
      reasons.push(`${source.what}: ${error instanceof Error ? error.message : String(error)}`)
      say(reasons.at(-1) as string)
    }
  }
  throw new LocalError('nats_server_missing', `no nats-server could be fetched (${reasons.join(' | ')}). ${remedy}`)
}

function sourcesFor(want: WantedServer): Source[] {
  const release = (which: 'current' | 'oldest'): Source => ({
    what: `official release ${releases[which].version}, about 6 MB`,
    fetch: (folder) => fetchRelease({ release: releases[which], folder }),
  })
  const debian = (suite: 'trixie' | 'sid'): Source => ({
    what: `Debian package from ${suite} through this host's apt configuration, about 15 MB`,
    fetch: (folder) => fetchDebianPackage({ suite, folder }),
  })
  return {
    default: [release('current'), debian('trixie'), debian('sid')],
    oldest: [debian('trixie'), release('oldest')],
    newest: [debian('sid'), release('current')],
  }[want]
}

/** Fetches into a folder of its own and moves the binary into the cache in one step, so that nobody finds half of it. */
async function install(source: Source, cache: string): Promise<NatsServer> {
  const folder = mkdtempSync(join(cache, 'fetch-'))
  try {
    const fetched = await source.fetch(folder)
    const version = await versionOf(fetched)
    if (version === undefined) throw new LocalError('nats_server_missing', 'what was fetched does not run here')
    const home = ownFolder(join(ownFolder(join(cache, 'nats-server'), 0o755), version), 0o755)
    const [staged, path] = [join(folder, 'nats-server.new'), join(home, 'nats-server')]
    copyFileSync(fetched, staged)
    renameSync(staged, path)
    return { path, version }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function fits(version: string, want: WantedServer): boolean {
  const isOldLine = version.startsWith('2.10.')
  return isSupported(version) && (want === 'default' || (want === 'oldest' ? isOldLine : !isOldLine))
}
