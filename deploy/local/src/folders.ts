import { createHash } from 'node:crypto'
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, mkdtempSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { LocalEnvironment } from './env.ts'
import { LocalError } from './errors.ts'

/**
 * Makes a folder that nobody else can have prepared for us: a real folder, owned by this user, writable by this user alone.
 * @throws {LocalError} `folder_not_ours`
 */
export function ownFolder(path: string, mode: 0o700 | 0o711 | 0o755 = 0o700): string {
  mkdirSync(path, { recursive: true, mode })
  if (!isOwnFolder(path)) {
    throw new LocalError('folder_not_ours', `${path} is not a folder that only this user can write to; move it away`)
  }
  if ((lstatSync(path).mode & 0o777) !== mode) chmodSync(path, mode)
  return path
}

/** Whether a path is a real folder (no link) that this user owns and nobody else can write to. */
export function isOwnFolder(path: string): boolean {
  const stat = lstatSync(path)
  const uid = process.getuid?.() ?? stat.uid
  return stat.isDirectory() && stat.uid === uid && (stat.mode & 0o022) === 0
}

/**
 * The short-lived folder that belongs to a state folder. It is outside it and has a short path, because it holds Unix sockets
 * (under 107 bytes) and, when root runs the stack, files of another user who could not pass a 0700 folder.
 */
export function runFolderOf(stateDir: string, env: LocalEnvironment): string {
  const hash = createHash('sha256').update(resolve(stateDir)).digest('hex').slice(0, 8)
  return join(env.tmp, `ltg-${env.uid ?? 'user'}-${hash}`)
}

/** A fresh folder for one test or one short run; `ltg-<uid>-t-…`, found again by {@link cleanDeadRuns} when its run died. */
export function temporaryRunFolder(env: LocalEnvironment): string {
  const folder = mkdtempSync(join(env.tmp, temporaryPrefix(env)))
  chmodSync(folder, env.uid === 0 ? 0o711 : 0o700)
  return folder
}

/** What the names of temporary run folders begin with. */
export const temporaryPrefix = (env: LocalEnvironment): string => `ltg-${env.uid ?? 'user'}-t-`

/** The first folder of a list that can be made and written to, or undefined. */
export function firstWritable(folders: string[]): string | undefined {
  return folders.find((folder) => {
    try {
      ownFolder(folder, 0o755)
      accessSync(folder, constants.W_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Replaces a file in one step, readable by this user alone, so that nobody ever reads half of it. */
export function writePrivateJson(path: string, value: unknown): void {
  const next = `${path}.${process.pid}.tmp`
  writeFileSync(next, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 })
  renameSync(next, path)
}
