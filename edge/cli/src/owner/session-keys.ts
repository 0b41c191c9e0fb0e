import { encodeKey, generateKeyPair, type KeyPair, kidOfKey } from '@lenserfight/envelope'
import { readKeyPair } from '@lenserfight/keychain'
import type { Context } from '../context.ts'
import { keyNameOf, type Profile, readProfile, type Session, writeProfile } from '../profile.ts'

// A key is in the keychain only while the profile names it: its name is written down before it is kept, and struck out
// after it is gone. So whenever this is killed, the next sign-in finds every key that there is, and leaves one.

/** A session key that awaits its token. */
export interface PendingKey {
  readonly kid: string
  readonly keys: KeyPair
}

const profileOf = ({ edge }: Context): Profile => readProfile(edge.profileFile)
const keep = ({ edge }: Context, profile: Profile): void => writeProfile(edge.profileFolder, edge.profileFile, profile)

/** Writes down a profile, and which keys it has no use for any more; then forgets those. */
const keepWithout = async (
  context: Context,
  profile: Profile,
  kids: readonly (string | undefined)[],
): Promise<void> => {
  const leaving = [...new Set([...(profile.leaving ?? []), ...kids.filter((kid) => kid !== undefined)])]
  const { leaving: _, ...rest } = profile
  if (leaving.length > 0) {
    keep(context, { ...rest, leaving })
    const keychain = await context.keychain()
    for (const kid of leaving) await keychain.delete(keyNameOf(kid))
  }
  keep(context, rest)
}

/** The key pair that the next token is to be bound to: kept until a sign-in with it succeeds. */
export const pendingKey = async (context: Context): Promise<PendingKey> => {
  const keychain = await context.keychain()
  await keepWithout(context, profileOf(context), [])
  const { pending, ...rest } = profileOf(context)
  if (pending !== undefined && (await keychain.get(keyNameOf(pending.kid))) !== undefined) {
    return { kid: pending.kid, keys: await readKeyPair(keychain, keyNameOf(pending.kid)) }
  }
  // Killed while it was kept: what is there of it goes with its name.
  if (pending !== undefined) await keychain.delete(keyNameOf(pending.kid))
  const keys = generateKeyPair()
  const kid = kidOfKey(keys.publicKey)
  keep(context, { ...rest, pending: { kid } })
  await keychain.set(keyNameOf(kid), encodeKey(keys.privateKey))
  return { kid, keys }
}

/** Forgets a key that no token will ever be bound to with success. */
export const dropPending = async (context: Context): Promise<void> => {
  const { pending, ...rest } = profileOf(context)
  await keepWithout(context, rest, [pending?.kid])
}

/** Keeps the session that the pending key has become, and forgets the one before. */
export const keepSession = async (context: Context, session: Session): Promise<void> => {
  const { session: former, pending: _, ...rest } = profileOf(context)
  await keepWithout(context, { ...rest, session }, [former?.kid === session.kid ? undefined : former?.kid])
}

/** Forgets session and pending key. */
export const forgetSession = async (context: Context): Promise<void> => {
  const { session, pending, ...rest } = profileOf(context)
  if (session === undefined && pending === undefined && rest.leaving === undefined) return
  await keepWithout(context, rest, [session?.kid, pending?.kid])
}
