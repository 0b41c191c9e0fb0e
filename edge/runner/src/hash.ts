import { createHash, type Hash } from 'node:crypto'
import { createReadStream, readFileSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { canonicalize } from '@lenserfight/envelope'
import { CodedError, type RunFile } from '@lenserfight/schemas'

const longestName = 256

const finish = (hash: Hash): string => hash.digest('base64url')

/** SHA-256 over the canonical JSON array of a command's words (RFC 8785), base64url. */
export const hashCommand = (words: readonly string[]): string =>
  finish(createHash('sha256').update(canonicalize(words)))

/**
 * SHA-256 over the canonical JSON of a value (RFC 8785), base64url: what a tool log says of a tool's arguments.
 * @throws TypeError where the value has no JSON, such as a function, or a number that is not finite
 */
export const hashJson = (value: unknown): string => finish(createHash('sha256').update(canonicalize(value)))

/**
 * Hashes a file from an offset to its end, without moving anybody's place in it.
 * @returns SHA-256 as base64url, and how many bytes there were
 */
const hashFrom = async (source: { path: string; fd?: number; start?: number; signal?: AbortSignal | undefined }) => {
  const hash = createHash('sha256')
  let bytes = 0
  const { path, fd, start = 0, signal } = source
  const given = fd === undefined ? {} : { fd, autoClose: false }
  const stream = createReadStream(path, { start, ...given, ...(signal === undefined ? {} : { signal }) })
  for await (const chunk of stream) {
    hash.update(chunk as Buffer)
    bytes += (chunk as Buffer).length
  }
  return { sha256: finish(hash), bytes }
}

/**
 * A named file as it stands, by name and hash.
 * @param signal ends the look at it
 * @throws CodedError `input_unreadable`
 */
export const hashFile = async (path: string, signal?: AbortSignal): Promise<RunFile> => {
  try {
    if (!statSync(path).isFile()) throw new CodedError('input_unreadable', `${path} is not a file`)
    const name = path.length <= longestName ? path : basename(path).slice(-longestName)
    return { name, ...(await hashFrom({ path, signal })) }
  } catch (cause) {
    throw cause instanceof CodedError ? cause : new CodedError('input_unreadable', path, { cause })
  }
}

/** Outputs as they stand; apart from them those that were not made, and those that `signal` left no time for. */
export interface HashedOutputs {
  readonly files: RunFile[]
  readonly missing: string[]
  readonly unread: string[]
}

/**
 * Named outputs, as far as they were made.
 * @param signal ends the look at them: what was hashed by then stands
 */
export const hashOutputs = async (paths: readonly string[], signal?: AbortSignal): Promise<HashedOutputs> => {
  const [files, missing, unread]: [RunFile[], string[], string[]] = [[], [], []]
  for (const path of paths) {
    try {
      files.push(await hashFile(path, signal))
    } catch {
      if (signal?.aborted) unread.push(path)
      else missing.push(path)
    }
  }
  return { files, missing, unread }
}

/** Where this process stands in an open file. Linux tells; elsewhere a file is taken to be at its beginning. */
const placeIn = (fd: number): number => {
  try {
    return Number(/^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** Hashes what an open file has left to offer, leaving it where it is for who reads it next. */
export const hashRest = async (fd: number): Promise<string> =>
  (await hashFrom({ path: '', fd, start: placeIn(fd) })).sha256
