import { checkKeyName } from './key-name.ts'
import { createKeyPlaces } from './key-places.ts'
import type { Keychain } from './keychain.ts'
import { askOs, type OsOptions } from './os/ask.ts'
import { type OsBackend, osBackends } from './os/protocol.ts'

/** A keychain of the operating system, and what is remembered of which key is in it. */
export interface OsKeychain extends Keychain {
  /** Whether a key of that name is remembered to be in it. */
  readonly remembers: (name: string) => boolean
}

/** The remembered backend alone; where nothing is remembered, each, the preferred one first. */
const backendsFor = (remembered: OsBackend | undefined, preferred: OsBackend): readonly OsBackend[] =>
  remembered === undefined ? [preferred, ...osBackends.filter((other) => other !== preferred)] : [remembered]

/**
 * Keys in the OS keychain (RFC-0003 §2.2).
 * @param folder where is remembered which backend holds which key
 * @param preferred for keys that are new
 */
export const createOsKeychain = (folder: string, preferred: OsBackend, options: OsOptions): OsKeychain => {
  const places = createKeyPlaces(folder)
  const placeOf = (name: string): OsBackend | undefined => {
    checkKeyName(name)
    return places.of(name)
  }
  return {
    backend: preferred,
    remembers: (name) => placeOf(name) !== undefined,
    get: async (name) => {
      const backends = backendsFor(placeOf(name), preferred)
      return (await askOs({ op: 'get', backends, name }, options)).secret ?? undefined
    },
    set: async (name, secret) => {
      const remembered = placeOf(name)
      const backend = remembered ?? preferred
      // Before it is kept: a key that nobody remembers would not be found where the other library is preferred.
      if (remembered === undefined) places.remember(name, backend)
      try {
        await askOs({ op: 'set', backend, name, secret }, options)
      } catch (error) {
        if (remembered === undefined) places.forget(name)
        throw error
      }
    },
    delete: async (name) => {
      await askOs({ op: 'delete', backends: backendsFor(placeOf(name), preferred), name }, options)
      places.forget(name)
    },
  }
}
