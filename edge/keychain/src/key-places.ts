import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import { type OsBackend, osBackends } from './os/protocol.ts'
import { ensurePrivateFolder, readPrivateFile, writePrivateFile } from './private-files.ts'

/** Which OS backend holds a key, by the key's name. No secret: a hint, without which a key is looked for in each. */
export interface KeyPlaces {
  /** The backend that holds it, as far as is remembered. */
  readonly of: (name: string) => OsBackend | undefined
  readonly remember: (name: string, backend: OsBackend) => void
  readonly forget: (name: string) => void
}

/**
 * Remembers it in private files, one a key: daemon and command line write them at the same time.
 * @param folder made on the first write
 */
export const createKeyPlaces = (folder: string): KeyPlaces => {
  const fileOf = (name: string): string => join(folder, `${name}.backend`)
  return {
    of: (name) => {
      const text = readPrivateFile(fileOf(name))?.trim()
      return osBackends.find((backend) => backend === text)
    },
    remember: (name, backend) => {
      ensurePrivateFolder(folder)
      writePrivateFile(fileOf(name), `${backend}\n`)
    },
    forget: (name) => {
      try {
        rmSync(fileOf(name), { force: true })
      } catch (cause) {
        throw new CodedError('state_unwritable', fileOf(name), { cause })
      }
    },
  }
}
