import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import { checkKeyName } from './key-name.ts'
import type { Keychain } from './keychain.ts'
import { ensurePrivateFolder, readPrivateFile, writePrivateFile } from './private-files.ts'

/**
 * Keys in files, one each, for CI and development (RFC-0003 §2.2): folder 0700, files 0600, both ours.
 * @throws CodedError `insecure_permissions`, `state_unwritable`
 */
export const createFileKeychain = (folder: string): Keychain => {
  ensurePrivateFolder(folder)
  const fileOf = (name: string): string => {
    checkKeyName(name)
    // Again at each use: a folder opened to others in the meantime is as bad as one that was open before.
    ensurePrivateFolder(folder)
    return join(folder, `${name}.key`)
  }
  return {
    backend: 'file',
    get: async (name) => readPrivateFile(fileOf(name))?.trim(),
    set: async (name, secret) => writePrivateFile(fileOf(name), `${secret}\n`),
    delete: async (name) => {
      const file = fileOf(name)
      try {
        rmSync(file, { force: true })
      } catch (cause) {
        throw new CodedError('state_unwritable', file, { cause })
      }
    },
  }
}
