import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Settings } from '@lenserfight/daemon/client'
import { readPrivateFile } from '@lenserfight/keychain'
import { CodedError, Descriptor } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import type { Context } from './context.ts'
import { plain } from './output.ts'

/** What a running local stack says of itself, as far as signing in needs it. */
const StackFile = Type.Object({
  issuer: Type.Object({ url: Type.String(), client_secret: Type.String() }),
  gateway: Type.Object({ descriptor: Type.String() }),
})
export type StackFile = Static<typeof StackFile>

const readJson = (file: string, readText: (file: string) => string): unknown => {
  try {
    return JSON.parse(readText(file)) as unknown
  } catch (cause) {
    if (cause instanceof CodedError && cause.code === 'insecure_permissions') throw cause
    // The parser's message quotes the text, and a stack's file holds secrets.
    throw new CodedError('descriptor_missing', `cannot read ${file}`, cause instanceof SyntaxError ? {} : { cause })
  }
}

/** @throws CodedError `descriptor_missing`, `descriptor_invalid` */
export const readDescriptor = (file: string): Descriptor => {
  const value = readJson(file, (path) => readFileSync(path, 'utf8'))
  if (!Check(Descriptor, value)) throw new CodedError('descriptor_invalid', file)
  return value
}

/** The nearest `.local/stack.json` of this folder and those above it. */
const findStack = (from: string): string | undefined => {
  const file = join(from, '.local', 'stack.json')
  if (existsSync(file)) return file
  const above = dirname(from)
  return above === from ? undefined : findStack(above)
}

/**
 * What the local stack says of itself. It names whom to believe, and is looked for in folders that others may write in
 * (a shared `/tmp`), so only one that is this user's alone counts; a stack writes its own 0600.
 * @param file given by the caller, else the nearest one upwards of `cwd`
 * @throws CodedError `descriptor_missing`, `descriptor_invalid`, `insecure_permissions`
 */
export const readStack = (file: string | undefined, cwd: string): StackFile => {
  const found = file === undefined ? findStack(cwd) : resolve(cwd, file)
  if (found === undefined)
    throw new CodedError(
      'descriptor_missing',
      'no .local/stack.json here or above: run `npm start`, or name one with --stack',
    )
  const value = readJson(found, (path) => readPrivateFile(path) ?? '')
  if (!Check(StackFile, value)) throw new CodedError('descriptor_invalid', found)
  return { ...value, gateway: { descriptor: resolve(dirname(found), value.gateway.descriptor) } }
}

/**
 * Pins the gateway that this machine deals with. Once pinned, id and root key never change by themselves; the address may.
 * @param given the descriptor that the caller named, if any
 * @throws CodedError `descriptor_missing`, `descriptor_changed`
 */
export const pinDescriptor = (settings: Settings, given: Descriptor | undefined, stateFolder: string): Descriptor => {
  const pinned = settings.get('descriptor')
  if (given === undefined && pinned === undefined) {
    throw new CodedError('descriptor_missing', 'with a local stack: `lf login --dev`')
  }
  if (given === undefined) return pinned as Descriptor
  if (pinned !== undefined && (pinned.gateway_id !== given.gateway_id || pinned.root_key !== given.root_key)) {
    throw new CodedError(
      'descriptor_changed',
      `remove ${stateFolder} to forget the former gateway and this machine’s identity`,
    )
  }
  settings.set('descriptor', given)
  return given
}

/**
 * The gateway of this machine: what the command line names is pinned, as with signing in. A project's file is somebody else's
 * word, and whom this machine believes is decided once: it says what to name, and pins nothing.
 * @throws CodedError `descriptor_missing`, `descriptor_invalid`, `descriptor_changed`
 */
export const descriptorOf = (context: Context, file = context.gatewayFile): Descriptor => {
  const settings = context.settings()
  const given = file === undefined ? undefined : readDescriptor(resolve(context.config.cwd, file))
  if (given === undefined && settings.get('descriptor') === undefined) {
    const { file: project, config } = context.project()
    if (config.gateway !== undefined) {
      throw new CodedError(
        'descriptor_missing',
        plain(`${project} names one; if you trust it: --gateway ${config.gateway}`),
      )
    }
  }
  return pinDescriptor(settings, given, context.edge.stateFolder)
}
