import { encodeKey, type KeyPair, newUuidV7, signKeyProof } from '@lenserfight/envelope'
import { ensureKeyPair, type Keychain } from '@lenserfight/keychain'
import { CodedError } from '@lenserfight/schemas'
import { type Enrolled, enrolledOf, type KeyChange, type Settings } from '../settings.ts'
import { changesOf, type KeyFacts, withAdopted, withChange, withFacts, withMadeKey, withoutChange } from './change.ts'

/** A change whose key is made: what the gateway is asked for. */
export interface ReadyChange {
  readonly op_id: string
  readonly key_name: string
  readonly body: { readonly device_id: string; readonly new_public_key: string; readonly proof: string }
}

/**
 * The changes of this device's key, as kept. Whoever calls holds the instance lock, or is the daemon: two at once could
 * make two keys of one name.
 */
export interface KeyChanges {
  readonly identity: () => Enrolled
  /** Begins a change, or goes on with the one of its kind: intent, then key, then the proof of its possession. */
  readonly begin: (kind: KeyChange['kind']) => Promise<ReadyChange>
  /** The change's key is in force from now on, in one write. Nothing where there is no such change any more. */
  readonly adopt: (opId: string, facts: KeyFacts) => void
  /** The change will never happen. */
  readonly drop: (opId: string) => void
  /** Keeps what the gateway said of the key in force; one whose end was brought forward is due for rotation. */
  readonly learn: (facts: KeyFacts) => void
  /** Removes spent keys from the keychain; what cannot be removed now is left for the next time. */
  readonly sweep: () => Promise<void>
}

export interface KeyChangesOptions {
  readonly settings: Settings
  readonly keychain: () => Promise<Keychain>
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

export const createKeyChanges = ({ settings, keychain, now = Date.now }: KeyChangesOptions): KeyChanges => {
  const identity = (): Enrolled => {
    const kept = enrolledOf(settings.get('identity'))
    if (kept === undefined) throw new CodedError('not_enrolled')
    return kept
  }
  const update = (change: (kept: Enrolled) => Enrolled): Enrolled => {
    settings.update('identity', (kept) => {
      const enrolled = enrolledOf(kept)
      return enrolled && change(enrolled)
    })
    return identity()
  }
  const proofOf = (change: KeyChange, keys: KeyPair, { device_id, gateway_id, public_key }: Enrolled): ReadyChange => {
    const { kind, op_id, key_name } = change
    const new_public_key = encodeKey(keys.publicKey)
    const old_public_key = kind === 'rotate' ? public_key : null
    const claim = { kind, aud: gateway_id, device_id, op_id, old_public_key, new_public_key }
    const proof = signKeyProof(claim, keys.privateKey)
    return { op_id, key_name, body: { device_id, new_public_key, proof } }
  }
  return {
    identity,
    begin: async (kind) => {
      const op_id = newUuidV7(now())
      const begun = update((kept) => withChange(kept, { kind, op_id, key_name: `device-${op_id}` }))
      const change = changesOf(begun).find((each) => each.kind === kind) as KeyChange
      const keys = await ensureKeyPair(await keychain(), change.key_name)
      const made = update((kept) => withMadeKey(kept, change.op_id, encodeKey(keys.publicKey)))
      return proofOf(change, keys, made)
    },
    adopt: (opId, facts) => {
      update((kept) => {
        const change = changesOf(kept).find(({ op_id }) => op_id === opId)
        return change?.public_key === undefined ? kept : withAdopted(kept, change, facts, Math.floor(now() / 1000))
      })
    },
    drop: (opId) => {
      update((kept) => withoutChange(kept, opId))
    },
    learn: (facts) => {
      // Most often nothing is new, and then nothing is written.
      if (withFacts(identity(), facts) !== undefined) update((kept) => withFacts(kept, facts) ?? kept)
    },
    sweep: async () => {
      const names = identity().spent_keys ?? []
      if (names.length === 0) return
      const open = await keychain()
      for (const name of names) {
        await open.delete(name)
        update((kept) => ({ ...kept, spent_keys: kept.spent_keys?.filter((each) => each !== name) ?? [] }))
      }
    },
  }
}
