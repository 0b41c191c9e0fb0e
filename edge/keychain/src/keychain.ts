import { CodedError } from '@lenserfight/schemas'
import { createFileKeychain } from './file-keychain.ts'

/** Where keys may live. The operating systems' own come behind the same port. */
export const keychainBackends = ['file'] as const
export type KeychainBackend = (typeof keychainBackends)[number]

/** Named secrets of this user (CO-4). Names are lower-case letters, digits and hyphens; secrets are short texts. */
export interface Keychain {
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
  /** Where the file fallback keeps them. */
  readonly folder: string
  /** Told each time that keys are kept in files; a line for people. */
  readonly warn: (line: string) => void
}

/**
 * Opens the keychain of this user.
 * @throws CodedError `keychain_unavailable` where no backend is usable, `insecure_permissions`, `state_unwritable`
 */
export const openKeychain = async ({ fileFallback, folder, warn }: KeychainOptions): Promise<Keychain> => {
  if (fileFallback !== '1') throw new CodedError('keychain_unavailable')
  warn(
    `WARNING: LF_GATEWAY_KEY_FILE_FALLBACK=1: private keys are kept unencrypted in ${folder}. ` +
      'For CI and development alone: whoever reads these files can sign in this machine’s name.',
  )
  return createFileKeychain(folder)
}
