import { readFileSync } from 'node:fs'
import { CodedError, checkPath, limits } from '@lenserfight/schemas'
import { plain } from '../output.ts'

/** What stands for the file that is standard input. */
const standardInput = '-'
/** JSON of an object has more characters than the object itself. */
const mostBytes = 4 * limits.objectBytes

/**
 * The text of a file, or of standard input.
 * @throws CodedError `input_unreadable`, `object_too_large`
 */
export const readInput = (file: string): string => {
  let bytes: Buffer
  try {
    bytes = readFileSync(file === standardInput ? 0 : file)
    if (bytes.length <= mostBytes) return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CodedError('input_unreadable', `${plain(file)} is no text that can be read`, { cause })
  }
  throw new CodedError('object_too_large', `${plain(file)} is over ${mostBytes / 1024} KiB`)
}

/** JSON where it is, else undefined. */
const jsonIn = (text: string): { readonly value: unknown } | undefined => {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** A value as it is typed: JSON where it is, and the path takes it; else the text itself, so that a name may be 2026. */
export const readValue = (className: string, path: string, text: string): unknown => {
  const json = jsonIn(text)
  if (json === undefined) return text
  const isText = checkPath(className, path, json.value) !== null && checkPath(className, path, text) === null
  return isText ? text : json.value
}

/** No object may be larger than this as it reads, so nothing written to one. @throws CodedError `object_too_large` */
export const refuseTooLarge = (paths: Readonly<Record<string, unknown>>): void => {
  const bytes = Buffer.byteLength(JSON.stringify(paths))
  if (bytes > limits.objectBytes) {
    throw new CodedError('object_too_large', `${bytes} bytes of ${limits.objectBytes / 1024} KiB`)
  }
}

export interface Assignments {
  readonly className: string
  /** `path=value`, `path=@file` or `path=-`. */
  readonly pairs: readonly string[]
  /** Paths that are deleted. */
  readonly unset: readonly string[]
  /** A JSON file of paths and their values. */
  readonly jsonFile?: string | undefined
}

type Read = (file: string) => string

const readPair = ({ className }: Assignments, pair: string, read: Read): [string, unknown] => {
  const at = pair.indexOf('=')
  if (at < 1) throw new CodedError('usage', `${plain(pair)}: a change is path=value, path=@file or path=-`)
  const [path, given] = [pair.slice(0, at), pair.slice(at + 1)]
  const file = given === standardInput ? given : given.startsWith('@') ? given.slice(1) : undefined
  return [path, readValue(className, path, file === undefined ? given : read(file))]
}

const readFile = (file: string | undefined, read: Read): [string, unknown][] => {
  if (file === undefined) return []
  const value = jsonIn(read(file))?.value
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CodedError('usage', `${plain(file)} is not a JSON object of paths and their values`)
  return Object.entries(value)
}

/**
 * What is to be written at which path, of everything that the command line names; null deletes.
 * @throws CodedError `usage` where a path is named twice, or standard input, or nothing is; `input_unreadable`, `object_too_large`
 */
export const readAssignments = (given: Assignments, read: Read = readInput): Readonly<Record<string, unknown>> => {
  let isTaken = false
  const readOnce: Read = (file) => {
    if (file === standardInput && isTaken) throw new CodedError('usage', 'standard input is one value’s alone')
    isTaken ||= file === standardInput
    return read(file)
  }
  const all = [
    ...readFile(given.jsonFile, readOnce),
    ...given.pairs.map((pair) => readPair(given, pair, readOnce)),
    ...given.unset.map((path): [string, unknown] => [path, null]),
  ]
  if (all.length === 0) throw new CodedError('usage', 'say what to set: path=value, --unset path, or --json-file FILE')
  const twice = all.find(([path], index) => all.findIndex(([each]) => each === path) !== index)
  if (twice !== undefined) throw new CodedError('usage', `${plain(twice[0])} is named twice`)
  return Object.fromEntries(all)
}
