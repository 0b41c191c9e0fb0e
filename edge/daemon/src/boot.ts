import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { checkPrivateFile, ensurePrivateFolder, openKeychain } from '@lenserfight/keychain'
import type { Descriptor } from '@lenserfight/schemas'
import { requireIdentity } from './checks/identity.ts'
import type { EdgeConfig, EdgePaths } from './config.ts'
import { resolveBind } from './http/bind.ts'
import { takeInstanceLock } from './instance-lock.ts'
import { createKeyChanges, type KeyChanges } from './keys/key-changes.ts'
import { type KeyRing, openKeyRing } from './keys/key-ring.ts'
import { rememberFile } from './own-file.ts'
import { createSettings, type Enrolled, type Settings } from './settings.ts'
import { unreadySocketOf } from './socket/server.ts'
import { openStore, type Store } from './store.ts'

/** What a daemon needs before it does anything, each part checked. */
export interface Boot {
  readonly store: Store
  readonly settings: Settings
  /** As it was at boot: only its key changes, which `changes` knows. */
  readonly identity: Enrolled
  readonly descriptor: Descriptor
  readonly changes: KeyChanges
  readonly ring: KeyRing
  /** The loopback address to listen on. */
  readonly bind: string
  /** Whether the state folder is still the one that this daemon holds, and nobody took it away or put another in its place. */
  readonly isThere: () => boolean
  /** Gives up the lock and closes the state. */
  readonly release: () => void
}

/**
 * CO-3: the state folder is 0700 and every file in it 0600, ours alone. The socket is made anew by each daemon.
 * @throws CodedError `insecure_permissions`, `state_unwritable`
 */
export const checkStateFolder = ({ stateFolder, socket }: EdgePaths): void => {
  ensurePrivateFolder(stateFolder)
  for (const entry of readdirSync(stateFolder, { withFileTypes: true })) {
    const path = join(stateFolder, entry.name)
    if (path === socket || path === unreadySocketOf(socket)) continue
    if (entry.isDirectory()) ensurePrivateFolder(path)
    else checkPrivateFile(path)
  }
}

/** The state's parts, for whoever may have it open beside the daemon: the command line. */
export const openState = (paths: EdgePaths): { store: Store; settings: Settings } => {
  checkStateFolder(paths)
  const store = openStore(paths.stateFile)
  return { store, settings: createSettings(store) }
}

/**
 * The daemon's checklist (RFC-0003 §8), in order: state folder (`insecure_permissions`, `state_unwritable`), no other
 * daemon (`daemon_running`), an identity (`not_enrolled`), its gateway (`descriptor_missing`, `descriptor_changed`), its
 * key (`keychain_unavailable`, `keychain_locked`, `keychain_refused`, `key_missing`), the address to listen on
 * (`public_bind_forbidden`). The configuration was checked before (SH-4); the clock is judged by the gateway's first
 * answer.
 * @param warn a line for people
 * @throws CodedError the first that fails
 */
export const boot = async (config: EdgeConfig, warn: (line: string) => void, now = Date.now): Promise<Boot> => {
  checkStateFolder(config)
  const unlock = takeInstanceLock(config.lockFile)
  // Held open with the lock.
  const isThere = rememberFile(config.lockFile)
  let store: Store | undefined
  try {
    const state = openState(config)
    store = state.store
    const { identity, descriptor } = requireIdentity(state.settings.get('identity'), state.settings.get('descriptor'))
    const keychain = await openKeychain({ fileFallback: config.fileFallback, folder: config.keysFolder, warn })
    const changes = createKeyChanges({ settings: state.settings, keychain: async () => keychain, now })
    const ring = await openKeyRing({ identity: changes.identity, keychain: async () => keychain, now })
    const bind = await resolveBind(config.bind)
    const release = (): void => {
      state.store.close()
      unlock()
    }
    return { ...state, identity, descriptor, changes, ring, bind, isThere, release }
  } catch (error) {
    store?.close()
    unlock()
    throw error
  }
}
