import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { CodedError } from '@lenserfight/schemas'

const others = 0o077
const folderMode = 0o700
const fileMode = 0o600

const insecure = (detail: string): CodedError => new CodedError('insecure_permissions', detail)

const unwritable = (path: string, cause: unknown): CodedError => new CodedError('state_unwritable', path, { cause })

const codeOfErrno = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | null)?.code

const checkOwner = (path: string, uid: number): void => {
  const own = process.getuid?.()
  if (own !== undefined && uid !== own) throw insecure(`${path} belongs to another user`)
}

/**
 * Makes sure that a folder exists, is ours and is closed to others (CO-3, R5). One that is open is refused, not
 * repaired: what was in it may have been read or replaced already.
 * @throws CodedError `insecure_permissions`, `state_unwritable`
 */
export const ensurePrivateFolder = (path: string): void => {
  try {
    mkdirSync(path, { recursive: true, mode: folderMode })
  } catch (error) {
    throw unwritable(path, error)
  }
  const stat = lstatSync(path)
  if (!stat.isDirectory()) throw insecure(`${path} is not a folder`)
  checkOwner(path, stat.uid)
  if ((stat.mode & others) !== 0) throw insecure(`${path} is mode ${modeOf(stat.mode)}, not 0700`)
}

const modeOf = (mode: number): string => `0${(mode & 0o777).toString(8)}`

/**
 * Makes sure that a file, if it exists, is a plain file of ours and closed to others.
 * @returns whether it exists
 * @throws CodedError `insecure_permissions`
 */
export const checkPrivateFile = (path: string): boolean => {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return false
  if (!stat.isFile()) throw insecure(`${path} is not a plain file`)
  checkOwner(path, stat.uid)
  if ((stat.mode & others) !== 0) throw insecure(`${path} is mode ${modeOf(stat.mode)}, not 0600`)
  return true
}

/**
 * The text of a private file, or undefined where there is none. Checked on the open file, so nobody can swap it between.
 * @throws CodedError `insecure_permissions`, `state_unwritable` (where it cannot be read)
 */
export const readPrivateFile = (path: string): string | undefined => {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  } catch (error) {
    if (codeOfErrno(error) === 'ENOENT') return undefined
    if (codeOfErrno(error) === 'ELOOP') throw insecure(`${path} is a symbolic link`)
    throw unwritable(path, error)
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw insecure(`${path} is not a plain file`)
    checkOwner(path, stat.uid)
    if ((stat.mode & others) !== 0) throw insecure(`${path} is mode ${modeOf(stat.mode)}, not 0600`)
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

const syncFolder = (path: string): void => {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * Writes a private file whole or not at all, and durably: a new file beside it, synced, then renamed over it.
 * @throws CodedError `state_unwritable`
 */
export const writePrivateFile = (path: string, text: string): void => {
  const draft = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    const fd = openSync(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, fileMode)
    try {
      // The umask may have closed more than 0600 leaves open.
      fchmodSync(fd, fileMode)
      writeSync(fd, text)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(draft, path)
    syncFolder(dirname(path))
  } catch (error) {
    rmSync(draft, { force: true })
    throw unwritable(path, error)
  }
}

/**
 * Makes an empty private file where there is none, for a program (SQLite) that then opens it by name.
 * @throws CodedError `insecure_permissions`, `state_unwritable`
 */
export const ensurePrivateFile = (path: string): void => {
  if (checkPrivateFile(path)) return
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, fileMode))
  } catch (error) {
    if (codeOfErrno(error) !== 'EEXIST') throw unwritable(path, error)
    checkPrivateFile(path)
  }
}
