import { createSigner, type EnvelopeSigner, encodeKey, type KeyPair } from '@lenserfight/envelope'
import type { Keychain } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'
import { readDeviceKeys } from '../checks/keychain.ts'
import type { Enrolled } from '../settings.ts'
import { changesOf } from './change.ts'

/**
 * The keys that may be this device's: the one in force as far as is known, and those that are to follow it. One is in
 * use; where the gateway does not know it, another is tried.
 */
export interface KeyRing {
  /** Signs with whichever key is in use. */
  readonly signer: EnvelopeSigner
  readonly inUse: () => KeyPair
  /** Reads again what is kept. The key in use stays so while it is kept. */
  readonly reload: () => Promise<void>
  /** Uses the one of that public key, where it is among them. */
  readonly use: (publicKey: string) => void
  /** Uses the next of them, where there is another. */
  readonly tryAnother: () => boolean
}

export interface KeyRingOptions {
  readonly identity: () => Enrolled
  readonly keychain: () => Promise<Keychain>
  /** Milliseconds since 1970. */
  readonly now?: (() => number) | undefined
}

/** The pair of that name, if it is there and is that key. */
const readKept = async (
  keychain: Keychain,
  key: Pick<Enrolled, 'key_name' | 'public_key'>,
): Promise<KeyPair | CodedError> => {
  try {
    return await readDeviceKeys(keychain, key)
  } catch (error) {
    if (error instanceof CodedError && error.code === 'key_missing') return error
    throw error
  }
}

type Ring = readonly [KeyPair, ...KeyPair[]]

const readRing = async (keychain: Keychain, identity: Enrolled): Promise<Ring> => {
  const kept = [await readKept(keychain, identity)]
  for (const { key_name, public_key } of changesOf(identity)) {
    if (public_key !== undefined) kept.push(await readKept(keychain, { key_name, public_key }))
  }
  const [first, ...others] = kept.filter((each): each is KeyPair => !(each instanceof CodedError))
  if (first === undefined) throw kept[0]
  return [first, ...others]
}

/** @throws CodedError `key_missing` where none of the keys is there, and as the keychain throws */
export const openKeyRing = async ({ identity, keychain, now = Date.now }: KeyRingOptions): Promise<KeyRing> => {
  let ring = await readRing(await keychain(), identity())
  let used: KeyPair = ring[0]
  const kid = identity().device_id
  const signerOf = (keys: KeyPair): EnvelopeSigner => createSigner({ kid, key: keys.privateKey, now })
  let signer = signerOf(used)
  const use = (keys: KeyPair): void => {
    if (encodeKey(keys.publicKey) === encodeKey(used.publicKey)) return
    used = keys
    signer = signerOf(keys)
  }
  const placeOf = (keys: KeyPair): number =>
    ring.findIndex(({ publicKey }) => encodeKey(publicKey) === encodeKey(keys.publicKey))

  return {
    signer: {
      kid,
      get publicKey() {
        return signer.publicKey
      },
      sign: (unsigned) => signer.sign(unsigned),
    },
    inUse: () => used,
    reload: async () => {
      ring = await readRing(await keychain(), identity())
      if (placeOf(used) < 0) use(ring[0])
    },
    use: (publicKey) => {
      const keys = ring.find((each) => encodeKey(each.publicKey) === publicKey)
      if (keys !== undefined) use(keys)
    },
    tryAnother: () => {
      if (ring.length < 2) return false
      use(ring[(placeOf(used) + 1) % ring.length] as KeyPair)
      return true
    },
  }
}
