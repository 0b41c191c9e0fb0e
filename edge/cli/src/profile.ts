import { ensurePrivateFolder, readPrivateFile, writePrivateFile } from '@lenserfight/keychain'
import { CodedError, UnixSeconds, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'

const closed = { additionalProperties: false } as const

/** A session: which key speaks for which account. The key itself is in the keychain, under `session-<kid>`. */
export const Session = Type.Object({ gateway_id: Uuid, kid: Uuid, lenser: Uuid, expires_at: UnixSeconds }, closed)
export type Session = Static<typeof Session>

/** `~/.lenserfight/lenserfight.json`: what a signed-in person needs, and never a signing key (CO-2). */
export const Profile = Type.Object(
  {
    session: Type.Optional(Session),
    /** A session key that awaits its token. */
    pending: Type.Optional(Type.Object({ kid: Uuid }, closed)),
    /** Session keys that are to be forgotten. */
    leaving: Type.Optional(Type.Array(Uuid, { maxItems: 16 })),
  },
  closed,
)
export type Profile = Static<typeof Profile>

export const keyNameOf = (kid: string): string => `session-${kid}`

/**
 * The profile; empty where there is none.
 * @throws CodedError `insecure_permissions`, `config_invalid`
 */
export const readProfile = (file: string): Profile => {
  const text = readPrivateFile(file)
  if (text === undefined) return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (!Check(Profile, value))
    throw new CodedError('config_invalid', `${file} is not a profile: remove it, and sign in again`)
  return value
}

/**
 * Writes the profile, of its form alone: what does not belong there never comes there.
 * @throws CodedError `config_invalid`, `insecure_permissions`, `state_unwritable`
 */
export const writeProfile = (folder: string, file: string, profile: Profile): void => {
  if (!Check(Profile, profile))
    throw new CodedError('config_invalid', 'the profile has a member that does not belong there')
  ensurePrivateFolder(folder)
  writePrivateFile(file, `${JSON.stringify(profile, null, 2)}\n`)
}
