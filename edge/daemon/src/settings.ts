import { Bytes16, Bytes32, CodedError, Descriptor, OpId, ShortText, UnixSeconds, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static, type TSchema } from '@lenserfight/schemas/typebox'
import type { Store } from './store.ts'

/**
 * A key that is to take the place of the one in force. It is kept from before it is made until the gateway's signed word
 * ends the change, so whatever crashes or lies in between, the key that the gateway believes is among those kept.
 */
export const KeyChange = Type.Object({
  kind: Type.Union([Type.Literal('rotate'), Type.Literal('reprove')]),
  op_id: OpId,
  key_name: ShortText(128),
  /** From here on the key is in the keychain. */
  public_key: Type.Optional(Bytes32),
})
export type KeyChange = Static<typeof KeyChange>

/**
 * This machine's identity. It is written before each step of enrolling, so that a step taken again is the same step:
 * the key's name before the key, the op_id before the request.
 */
export const Identity = Type.Object({
  /** Name of the private key in the keychain. */
  key_name: ShortText(128),
  /** The operation that registers it. */
  op_id: OpId,
  name: ShortText(64),
  device_type: ShortText(16),
  os: ShortText(64),
  gateway_id: Uuid,
  lenser: Uuid,
  /** From here on known only once registered. */
  device_id: Type.Optional(Uuid),
  public_key: Type.Optional(Bytes32),
  challenge: Type.Optional(Bytes16),
  registered_at: Type.Optional(UnixSeconds),
  /** The operation that answers the challenge. */
  challenge_op: Type.Optional(OpId),
  /** What the gateway said of the key in force. */
  key_number: Type.Optional(Type.Integer({ minimum: 1 })),
  key_expires_at: Type.Optional(UnixSeconds),
  /** Since when this machine knows it to be in force. */
  key_since: Type.Optional(UnixSeconds),
  /** Its owner wants the key rotated. */
  rotation_due: Type.Optional(Type.Boolean()),
  /** Changes of keys that are under way, at most one of each kind. */
  changes: Type.Optional(Type.Array(KeyChange, { maxItems: 2 })),
  /** Names of keys that are of no more use, and may still be in the keychain. */
  spent_keys: Type.Optional(Type.Array(ShortText(128))),
})
export type Identity = Static<typeof Identity>
/** An identity that the gateway has given an id. */
export type Enrolled = Identity & Required<Pick<Identity, 'device_id' | 'public_key' | 'challenge' | 'challenge_op'>>

/** The gateway's root-signed key list, as canonical text. */
const Keys = Type.String()

const settings = { descriptor: Descriptor, keys: Keys, identity: Identity } as const
type SettingName = keyof typeof settings
type Setting<N extends SettingName> = Static<(typeof settings)[N]>

/** What this machine has pinned and who it is. */
export interface Settings {
  /** @throws CodedError `state_unwritable` where what is kept does not have its form */
  readonly get: <N extends SettingName>(name: N) => Setting<N> | undefined
  readonly set: <N extends SettingName>(name: N, value: Setting<N>) => void
  /** Sets what `choose` makes of what is kept, if anything, in one step that no other process comes between. */
  readonly update: <N extends SettingName>(
    name: N,
    choose: (kept: Setting<N> | undefined) => Setting<N> | undefined,
  ) => void
  readonly delete: (name: SettingName) => void
}

export const createSettings = (store: Store): Settings => {
  const get: Settings['get'] = <N extends SettingName>(name: N) => {
    const row = store.get<{ value: string }>('SELECT value FROM settings WHERE key = ?', name)
    if (row === undefined) return undefined
    const value: unknown = JSON.parse(row.value)
    // To go on as if there were none would enrol this machine a second time.
    if (!Check(settings[name] as TSchema, value)) throw new CodedError('state_unwritable', `${name} is damaged`)
    return value as Setting<N>
  }
  const set: Settings['set'] = (name, value) => {
    store.run(
      'INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      name,
      JSON.stringify(value),
    )
  }
  return {
    get,
    set,
    update: (name, choose) =>
      store.transaction(() => {
        const next = choose(get(name))
        if (next !== undefined) set(name, next)
      }),
    delete: (name) => {
      store.run('DELETE FROM settings WHERE key = ?', name)
    },
  }
}

/** The identity, if it has been registered. */
export const enrolledOf = (identity: Identity | undefined): Enrolled | undefined =>
  identity?.device_id && identity.public_key && identity.challenge && identity.challenge_op
    ? (identity as Enrolled)
    : undefined
