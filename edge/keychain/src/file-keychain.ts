import { readdirSync, rmSync } from 'node:fs'
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
  const forget = (file: string): void => {
    try {
      rmSync(file, { force: true })
    } catch (cause) {
      throw new CodedError('state_unwritable', file, { cause })
    }
  }
  /** What a process that was killed while it wrote this key left of it: a key that nobody would ever remove. */
  const sweepDrafts = (name: string): void => {
    const drafts = readdirSync(folder).filter((file) => file.startsWith(`${name}.key.`) && file.endsWith('.tmp'))
    for (const draft of drafts) forget(join(folder, draft))
  }
  return {
    backend: 'file',
    get: async (name) => readPrivateFile(fileOf(name))?.trim(),
    set: async (name, secret) => {
      const file = fileOf(name)
      sweepDrafts(name)
      writePrivateFile(file, `${secret}\n`)
    },
    delete: async (name) => {
      const file = fileOf(name)
      sweepDrafts(name)
      forget(file)
    },
  }
}
