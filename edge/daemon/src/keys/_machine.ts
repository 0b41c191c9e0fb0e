import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeKey, generateKeyPair, type KeyPair, newUuidV7 } from '@lenserfight/envelope'
import { openKeychain } from '@lenserfight/keychain'
import { createLogger } from '@lenserfight/runtime'
import type { ExecutionContext } from 'ava'
import { uuid } from '../_enrolled.ts'
import { createOutbox } from '../outbox/outbox.ts'
import { createSettings } from '../settings.ts'
import { openStore } from '../store.ts'
import { createKeyChanges } from './key-changes.ts'
import { openKeyRing } from './key-ring.ts'
import { createRotation } from './rotation.ts'

export const logger = createLogger({ service: 'test', level: 'silent' as never })

/** Who the machine is to its gateway; nobody that any gateway knows, unless one is named. */
export interface Known {
  readonly gatewayId: string
  readonly lenser: string
  readonly kid: string
  readonly keys: KeyPair
}
const nobody = (): Known => ({ gatewayId: uuid('a'), lenser: uuid('b'), kid: uuid('c'), keys: generateKeyPair() })

/** A machine with real state and real key files; `open` is one daemon's life on it. */
export const createMachine = async (t: ExecutionContext, { gatewayId, lenser, kid, keys } = nobody()) => {
  const folder = mkdtempSync(join(tmpdir(), 'lf-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const keychain = await openKeychain({ fileFallback: '1', folder: join(folder, 'keys'), warn: () => {} })
  await keychain.set('device-1', encodeKey(keys.privateKey))
  const store = openStore(join(folder, 'state.db'))
  t.teardown(store.close)
  const settings = createSettings(store)
  const publicKey = encodeKey(keys.publicKey)
  settings.set('identity', {
    ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'm', device_type: 'ci', os: 'x' },
    ...{ gateway_id: gatewayId, lenser, device_id: kid, challenge_op: newUuidV7() },
    ...{ public_key: publicKey, challenge: 'AAAAAAAAAAAAAAAAAAAAAA', key_number: 1 },
  })
  /** @param onAsked asks the gateway which key is in force */
  const open = async (onAsked: () => void = () => {}) => {
    const changes = createKeyChanges({ settings, keychain: async () => keychain })
    const ring = await openKeyRing({ identity: changes.identity, keychain: async () => keychain })
    let asked = 0
    const outbox = createOutbox({
      store,
      logger,
      onEnded: ({ kind, opId }) => {
        if (kind === 'rotate') rotation.ended(opId)
      },
    })
    const rotation = createRotation({
      ...{ changes, outbox, logger, mayRotate: () => true, onKeys: ring.reload, random: () => 0 },
      tryKey: async (next) => {
        await ring.reload()
        ring.use(next)
      },
      askInForce: () => {
        asked += 1
        onAsked()
      },
    })
    t.teardown(outbox.close)
    return { changes, ring, outbox, rotation, asked: () => asked }
  }
  const names = () => readdirSync(join(folder, 'keys')).map((name) => name.replace(/\.key$/, ''))
  /** The disk takes no operation for the outbox. */
  const fill = (isFull: boolean): void => {
    const refusal = `CREATE TRIGGER full BEFORE INSERT ON operations BEGIN SELECT raise(ABORT, 'full'); END`
    store.run(isFull ? refusal : 'DROP TRIGGER full')
  }
  return { open, names, settings, store, fill, publicKey }
}
