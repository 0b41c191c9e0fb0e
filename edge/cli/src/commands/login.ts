import { resultOf } from '@lenserfight/daemon'
import { encodeKey, generateKeyPair, kidOfKey, newUuidV7 } from '@lenserfight/envelope'
import { readKeyPair } from '@lenserfight/keychain'
import { CodedError, nilUuid } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { pinDescriptor, readDescriptor, readStack } from '../descriptor.ts'
import { connectSession, requestMs } from '../owner/connect.ts'
import { askIssuer, readToken } from '../owner/token.ts'
import { keyNameOf, readProfile, type Session, writeProfile } from '../profile.ts'

export interface LoginArguments {
  readonly gateway?: string | undefined
  readonly dev?: boolean | undefined
  readonly as?: string | undefined
  readonly stack?: string | undefined
  readonly tokenFile?: string | undefined
  readonly nonce?: boolean | undefined
}

const timeOf = (seconds: number): string =>
  `${new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`

/** The key pair that the next token is to be bound to: kept until a sign-in with it succeeds. */
const pendingKeys = async (context: Context) => {
  const { profileFolder, profileFile } = context.edge
  const keychain = await context.keychain()
  const profile = readProfile(profileFile)
  if (profile.pending !== undefined) {
    const { kid } = profile.pending
    if ((await keychain.get(keyNameOf(kid))) !== undefined)
      return { kid, keys: await readKeyPair(keychain, keyNameOf(kid)) }
  }
  const keys = generateKeyPair()
  const kid = kidOfKey(keys.publicKey)
  await keychain.set(keyNameOf(kid), encodeKey(keys.privateKey))
  writeProfile(profileFolder, profileFile, { ...profile, pending: { kid } })
  return { kid, keys }
}

/** Keeps the new session and forgets the one before, its key first. */
const keepSession = async (context: Context, session: Session): Promise<void> => {
  const { profileFolder, profileFile } = context.edge
  const former = readProfile(profileFile).session
  writeProfile(profileFolder, profileFile, { session })
  if (former !== undefined && former.kid !== session.kid) await (await context.keychain()).delete(keyNameOf(former.kid))
}

/** `lf login`: registers a session key for the account that a token names. */
export const login = async (context: Context, given: LoginArguments): Promise<void> => {
  const { config, output, edge } = context
  const stack = given.dev ? readStack(given.stack, config.cwd) : undefined
  const file = given.gateway ?? stack?.gateway.descriptor
  const named = file === undefined ? undefined : readDescriptor(file)
  const descriptor = pinDescriptor(context.settings(), named, edge.stateFolder)
  const { kid, keys } = await pendingKeys(context)
  if (given.nonce) {
    output.result({ nonce: kid, audience: descriptor.gateway_id }, [kid])
    return
  }
  if (stack === undefined && given.tokenFile === undefined) {
    throw new CodedError('usage', 'give --token-file FILE, or --dev with a local stack')
  }
  const token =
    stack === undefined
      ? readToken(given.tokenFile as string)
      : await askIssuer(stack, { subject: given.as ?? config.userName, nonce: kid, audience: descriptor.gateway_id })

  const connection = { context, descriptor, kid, keys, lenser: nilUuid, includePublicKey: true }
  const { client, close } = await connectSession(connection)
  try {
    // Another token is another request, so each sign-in is an operation of its own; the key makes it take effect once.
    const body = { op_id: newUuidV7(), public_key: encodeKey(keys.publicKey), token }
    const result = resultOf(await client.ask('login', body, { deadlineMs: requestMs }))
    const { lenser_id: lenser, expires_at } = result as { lenser_id: string; expires_at: number }
    await keepSession(context, { gateway_id: descriptor.gateway_id, kid, lenser, expires_at })
    output.result({ ok: true, lenser_id: lenser, gateway_id: descriptor.gateway_id, expires_at }, [
      `Signed in as Lenser ${lenser} until ${timeOf(expires_at)}.`,
    ])
  } finally {
    await close()
  }
}

/** `lf logout`: forgets the session's key. */
export const logout = async (context: Context): Promise<void> => {
  const { profileFolder, profileFile } = context.edge
  const { session, pending } = readProfile(profileFile)
  const keychain = await context.keychain()
  for (const kid of [session?.kid, pending?.kid]) if (kid !== undefined) await keychain.delete(keyNameOf(kid))
  if (session !== undefined || pending !== undefined) writeProfile(profileFolder, profileFile, {})
  context.output.result({ ok: true, was_signed_in: session !== undefined }, [
    session === undefined ? 'Nobody was signed in.' : 'Signed out. This machine keeps its identity.',
  ])
}
