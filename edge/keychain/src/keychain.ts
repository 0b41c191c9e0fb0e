import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import { createFileKeychain } from './file-keychain.ts'
import { checkKeyName } from './key-name.ts'
import { askOs, type OsOptions } from './os/ask.ts'
import { osBackends } from './os/protocol.ts'
import { createOsKeychain } from './os-keychain.ts'

/** Where keys may live. */
export const keychainBackends = [...osBackends, 'file'] as const
export type KeychainBackend = (typeof keychainBackends)[number]

/** Named secrets of this user (CO-4). Names are lower-case letters, digits and hyphens; secrets are short texts. */
export interface Keychain {
  /** Where new keys go. A key that lies elsewhere is read, replaced and deleted where it is. */
  readonly backend: KeychainBackend
  /** The secret, or undefined where there is none of that name. */
  readonly get: (name: string) => Promise<string | undefined>
  /** Keeps a secret durably; one of the same name is replaced. */
  readonly set: (name: string, secret: string) => Promise<void>
  /** Forgets a secret; nothing happens where there is none. */
  readonly delete: (name: string) => Promise<void>
}

/** What decides which keychain is opened. */
export interface KeychainOptions {
  /** `LF_GATEWAY_KEY_FILE_FALLBACK` as the environment has it: `1` allows keys in files (RFC-0003 §2.2). */
  readonly fileFallback: string | undefined
  /** Where the file fallback keeps them, and where is remembered which OS backend holds which key. */
  readonly folder: string
  /** Told each time that keys are kept in files, and where the OS keychain takes long; a line for people. */
  readonly warn: (line: string) => void
  /** Whether there is a screen on which the OS keychain may ask; false where absent. */
  readonly hasDisplay?: boolean
  /** How long the OS keychain may take for an answer, milliseconds; 10 s where absent. */
  readonly deadlineMs?: number
  /** The environment in which the OS keychain is looked for; this process's own where absent. */
  readonly env?: NodeJS.ProcessEnv
}

const defaultDeadlineMs = 10_000

const osOptions = ({ warn, hasDisplay = false, deadlineMs = defaultDeadlineMs, env }: KeychainOptions): OsOptions => ({
  platform: process.platform,
  hasDisplay,
  deadlineMs,
  env,
  onWait: () => warn('The OS keychain has not answered yet: it may be asking for its password.'),
})

/** New keys in files; what is remembered to be in the OS keychain stays there. */
const openFiles = ({ folder, warn }: KeychainOptions, os: OsOptions): Keychain => {
  warn(
    `WARNING: LF_GATEWAY_KEY_FILE_FALLBACK=1: private keys are kept unencrypted in ${folder}. ` +
      'For CI and development alone: whoever reads these files can sign in this machine’s name.',
  )
  const files = createFileKeychain(folder)
  const elsewhere = createOsKeychain(folder, osBackends[0], os)
  const holderOf = (name: string): Keychain => (elsewhere.remembers(name) ? elsewhere : files)
  return {
    backend: 'file',
    get: async (name) => holderOf(name).get(name),
    set: async (name, secret) => holderOf(name).set(name, secret),
    delete: async (name) => holderOf(name).delete(name),
  }
}

/** Keys in the OS keychain. One that lies in a file is not passed over for another of its name. */
const openOs = async ({ folder }: KeychainOptions, os: OsOptions): Promise<Keychain> => {
  const { backend } = await askOs({ op: 'open' }, os)
  const keys = createOsKeychain(folder, backend, os)
  const checkNoFile = (name: string): void => {
    checkKeyName(name)
    if (keys.remembers(name) || !existsSync(join(folder, `${name}.key`))) return
    throw new CodedError('keychain_unavailable', `the key ${name} is in a file, which that variable alone allows`)
  }
  return {
    backend,
    get: async (name) => {
      checkNoFile(name)
      return keys.get(name)
    },
    set: async (name, secret) => {
      checkNoFile(name)
      return keys.set(name, secret)
    },
    delete: async (name) => {
      checkNoFile(name)
      return keys.delete(name)
    },
  }
}

/**
 * Opens the keychain of this user: the operating system's, or files where the variable allows them.
 * @throws CodedError `keychain_unavailable` where no backend is usable, `keychain_locked`, `keychain_refused`,
 * `insecure_permissions`, `state_unwritable`; each says what to do on this system
 */
export const openKeychain = async (options: KeychainOptions): Promise<Keychain> =>
  options.fileFallback === '1' ? openFiles(options, osOptions(options)) : openOs(options, osOptions(options))
