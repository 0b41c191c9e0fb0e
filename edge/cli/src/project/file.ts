import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { CodedError } from '@lenserfight/schemas'

/** The project's configuration: in its repository, for everybody who works on it, so nothing in it is secret (CO-1). */
export const projectFileName = '.lenserfight.json'

/** Bytes that such a file may have. */
const maxBytes = 64 * 1024

/** Where files are looked for. */
export interface Place {
  readonly cwd: string
  /** The person's home. */
  readonly home: string
}

const upTo = (folder: string, last: string): string[] =>
  folder === last || dirname(folder) === folder ? [folder] : [folder, ...upTo(dirname(folder), last)]

const isAbove = (above: string, folder: string): boolean =>
  folder === above || (dirname(folder) !== folder && isAbove(above, dirname(folder)))

const repositoryOf = (folder: string): string | undefined => {
  if (existsSync(join(folder, '.git'))) return folder
  const above = dirname(folder)
  return above === folder ? undefined : repositoryOf(above)
}

/**
 * The folders in which a project's file counts, nearest first: up to the root of the repository, else to the home, else
 * this one alone. Never further: what lies above (a shared `/tmp`) is others'.
 */
export const projectFolders = ({ cwd, home }: Place): string[] => {
  const [from, top] = [resolve(cwd), resolve(home)]
  const last = repositoryOf(from) ?? (isAbove(top, from) ? top : from)
  return upTo(from, last)
}

/** The files that there are, nearest first. */
export const projectFiles = (place: Place): string[] =>
  projectFolders(place)
    .map((folder) => join(folder, projectFileName))
    .filter((file) => lstatSync(file, { throwIfNoEntry: false }) !== undefined)

interface Stat {
  readonly uid: number
  readonly mode: number
  readonly size: number
  readonly isFile: boolean
}

/** It names the gateway that is believed, so nobody else may write it. Others may read it. */
const checkStat = (file: string, { uid, mode, size, isFile }: Stat): void => {
  if (!isFile) throw new CodedError('config_invalid', `${file} is not a plain file`)
  const own = process.getuid?.()
  if (own !== undefined && uid !== own && uid !== 0) {
    throw new CodedError('insecure_permissions', `${file} belongs to another user`)
  }
  if (own !== undefined && (mode & 0o002) !== 0) {
    throw new CodedError('insecure_permissions', `${file} can be written by everybody`)
  }
  if (size > maxBytes) throw new CodedError('config_invalid', `${file} is over ${maxBytes / 1024} KiB`)
}

/**
 * The text of a project's file, or of the descriptor that it names. No link is followed: what is somebody's own may lead to
 * other files where somebody else put a link to it.
 * @throws CodedError `config_invalid`, `insecure_permissions`
 */
export const readProjectText = (file: string): string => {
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ELOOP') {
      throw new CodedError('insecure_permissions', `${file} is a symbolic link`)
    }
    throw new CodedError('config_invalid', `${file} cannot be read`, { cause })
  }
  try {
    const stat = fstatSync(fd)
    checkStat(file, { uid: stat.uid, mode: stat.mode, size: stat.size, isFile: stat.isFile() })
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

/**
 * What a project's file holds.
 * @throws CodedError `config_invalid`, which does not quote it
 */
export const parseProjectFile = (file: string, text: string): Readonly<Record<string, unknown>> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The parser's message quotes the text.
    throw new CodedError('config_invalid', `${file} is not JSON`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CodedError('config_invalid', `${file} is not a JSON object`)
  }
  return value as Readonly<Record<string, unknown>>
}

/**
 * Writes it whole or not at all, readable by others as the repository's files are.
 * @throws CodedError `state_unwritable`
 */
export const writeProjectFile = (file: string, value: object): void => {
  const draft = `${file}.${process.pid}.tmp`
  try {
    const fd = openSync(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644)
    try {
      fchmodSync(fd, 0o644)
      writeSync(fd, `${JSON.stringify(value, null, 2)}\n`)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(draft, file)
  } catch (cause) {
    rmSync(draft, { force: true })
    throw new CodedError('state_unwritable', file, { cause })
  }
}
