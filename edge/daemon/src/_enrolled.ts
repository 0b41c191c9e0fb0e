import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { openKeychain } from '@lenserfight/keychain'
import { openState } from './boot.ts'
import { type EdgeConfig, readEdgeConfig } from './config.ts'

const gateway = '00000000-0000-4000-8000-00000000000a'

/** A machine that is enrolled at a gateway that is not there: nobody listens on that port. */
export const enrolledMachine = async (): Promise<EdgeConfig> => {
  const profile = join(mkdtempSync(join(tmpdir(), 'lf-edge-')), 'lf')
  mkdirSync(profile, { mode: 0o700 })
  const config = readEdgeConfig({ LENSERFIGHT_HOME: profile, LF_GATEWAY_KEY_FILE_FALLBACK: '1', LF_GATEWAY_PORT: '0' })
  const keys = generateKeyPair()
  const keychain = await openKeychain({ fileFallback: '1', folder: config.keysFolder, warn: () => {} })
  await keychain.set('device-1', encodeKey(keys.privateKey))
  const { store, settings } = openState(config)
  settings.set('descriptor', { url: 'nats://127.0.0.1:9', gateway_id: gateway, root_key: encodeKey(keys.publicKey) })
  settings.set('identity', {
    ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'm', device_type: 'ci', os: 'x' },
    ...{ gateway_id: gateway, lenser: '00000000-0000-4000-8000-00000000000b', challenge_op: newUuidV7() },
    ...{ device_id: '00000000-0000-4000-8000-00000000000c', challenge: 'AAAAAAAAAAAAAAAAAAAAAA' },
    public_key: encodeKey(keys.publicKey),
  })
  store.close()
  return config
}
