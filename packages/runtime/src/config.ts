import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { CodedError } from '@lenserfight/schemas'
import type { Static, TSchema } from '@lenserfight/schemas/typebox'
import { Clean, Clone, Compile, Equal } from '@lenserfight/schemas/typebox'

const invalid = (detail: string, cause?: unknown): CodedError =>
  new CodedError('config_invalid', detail, cause === undefined ? undefined : { cause })

const freeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(freeze)
    Object.freeze(value)
  }
  return value
}

const readJson = (file: string): unknown => {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw invalid(`cannot read ${file}`, cause)
  }
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, so it is no cause to hand on.
    throw invalid(`${file} is not JSON`)
  }
}

/**
 * Holds a value to a configuration schema: every member known, none missing.
 * @returns the value, deeply frozen.
 * @throws CodedError `config_invalid`, naming the member but none of its content.
 */
export const checkConfig = <T extends TSchema>(schema: T, value: unknown): Static<T> => {
  const validator = Compile(schema)
  const [first] = validator.Errors(value)
  if (first !== undefined) throw invalid(`${first.instancePath || '/'} ${first.message}`)
  // A nested schema that forgot to close itself would let a misspelt key pass unseen.
  if (!Equal(Clean(schema, Clone(value)), value)) throw invalid('an unknown key')
  return freeze(value as Static<T>)
}

/** What a command line asks for. */
export interface ConfigArguments {
  readonly file: string
  readonly checkOnly: boolean
}

/**
 * Reads `--config FILE [--check-config]`.
 * @throws CodedError `config_invalid` on anything else.
 */
export const parseConfigArguments = (argv: readonly string[]): ConfigArguments => {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { config: { type: 'string' }, 'check-config': { type: 'boolean', default: false } },
    })
    if (values.config === undefined) throw invalid('--config FILE is missing')
    return { file: values.config, checkOnly: values['check-config'] }
  } catch (error) {
    throw error instanceof CodedError ? error : invalid('usage: --config FILE [--check-config]', error)
  }
}

/**
 * The configuration of this process, read once and frozen. With `--check-config` it is validated, printed (it names
 * secrets by their files and holds none) and the process exits 0.
 * @param argv the arguments after the program's name
 * @throws CodedError `config_invalid`
 */
export const readConfig = <T extends TSchema>(schema: T, argv: readonly string[]): Static<T> => {
  const { file, checkOnly } = parseConfigArguments(argv)
  const config = checkConfig(schema, readJson(file))
  if (checkOnly) {
    process.stdout.write(`${JSON.stringify(config, null, 2)}\n`)
    process.exit(0)
  }
  return config
}

/**
 * The content of a secret's file, without the line break at its end.
 * @throws CodedError `config_invalid` when it cannot be read or is empty
 */
export const readSecret = (file: string): string => {
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw invalid(`cannot read ${file}`, cause)
  }
  if (text === '') throw invalid(`${file} is empty`)
  return text
}
