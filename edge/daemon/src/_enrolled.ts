import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { openKeychain } from '@lenserfight/keychain'
import { openState } from './boot.ts'
import { type EdgeConfig, readEdgeConfig } from './config.ts'
import type { Identity } from './settings.ts'

export const uuid = (last: string): string => `00000000-0000-4000-8000-00000000000${last}`

/** A machine of its own, on which nobody has done anything yet. */
export const newConfig = (more: Record<string, string> = {}): EdgeConfig => {
  const home = mkdtempSync(join(tmpdir(), 'lf-edge-'))
  return readEdgeConfig({
    LENSERFIGHT_HOME: join(home, 'lf'),
    LF_GATEWAY_KEY_FILE_FALLBACK: '1',
    LF_GATEWAY_PORT: '0',
    ...more,
  })
}

/** What `identity init` leaves, for a gateway that is not there: nobody listens on that port. */
export const enrol = async (config: EdgeConfig, more: Partial<Identity> = {}): Promise<void> => {
  mkdirSync(config.profileFolder, { mode: 0o700, recursive: true })
  const { store, settings } = openState(config)
  const keys = generateKeyPair()
  settings.set('descriptor', { url: 'nats://127.0.0.1:9', gateway_id: uuid('a'), root_key: encodeKey(keys.publicKey) })
  settings.set('identity', {
    ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'm', device_type: 'ci', os: 'x' },
    ...{ gateway_id: uuid('a'), lenser: uuid('b'), device_id: uuid('c'), challenge_op: newUuidV7() },
    ...{ public_key: encodeKey(keys.publicKey), challenge: 'AAAAAAAAAAAAAAAAAAAAAA' },
    ...more,
  })
  store.close()
  const keychain = await openKeychain({ fileFallback: '1', folder: config.keysFolder, warn: () => {} })
  await keychain.set('device-1', encodeKey(keys.privateKey))
}
