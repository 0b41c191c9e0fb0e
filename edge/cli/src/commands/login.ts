import { resultOf } from '@lenserfight/daemon'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { CodedError, type Descriptor, nilUuid, type ReasonCode } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { descriptorOf, readStack, type StackFile } from '../descriptor.ts'
import { machineName } from '../machine-name.ts'
import { timeOf } from '../output.ts'
import { connectSession, requestMs } from '../owner/connect.ts'
import { holdProfile } from '../owner/profile-lock.ts'
import { dropPending, keepSession, type PendingKey, pendingKey } from '../owner/session-keys.ts'
import { askIssuer, readToken } from '../owner/token.ts'
import { readProfile, type Session } from '../profile.ts'

export interface LoginArguments {
  readonly dev?: boolean | undefined
  readonly as?: string | undefined
  readonly stack?: string | undefined
  readonly tokenFile?: string | undefined
  readonly nonce?: boolean | undefined
}

/** After these no token makes a session of the key: it is another account's already, or was ended there. */
const spentKey: readonly ReasonCode[] = ['not_owner', 'session_expired', 'not_permitted']

const present = async (
  context: Context,
  descriptor: Descriptor,
  { kid, keys }: PendingKey,
  token: string,
): Promise<Session> => {
  const connection = { context, descriptor, kid, keys, lenser: nilUuid, includePublicKey: true }
  const { ask, close } = await connectSession(connection)
  try {
    // Another token is another request, so each sign-in is an operation of its own; the key makes it take effect once.
    const machine = machineName()
    const body = {
      ...{ op_id: newUuidV7(), public_key: encodeKey(keys.publicKey), token },
      ...(machine === undefined ? {} : { machine }),
    }
    const answer = await ask('login', body, requestMs)
    // The gateway knows this key, and that its session is over.
    if (answer === undefined) throw new CodedError('session_expired')
    const result = resultOf(answer)
    const { lenser_id: lenser, expires_at } = result as { lenser_id: string; expires_at: number }
    return { gateway_id: descriptor.gateway_id, kid, lenser, expires_at }
  } finally {
    await close()
  }
}

/** Signs in with the pending key; one that can never succeed is forgotten, so that the next try is with a fresh one. */
const signIn = async (
  context: Context,
  descriptor: Descriptor,
  tokenFor: (key: PendingKey) => Promise<string>,
): Promise<Session> => {
  const key = await pendingKey(context)
  const token = await tokenFor(key)
  try {
    return await present(context, descriptor, key, token)
  } catch (error) {
    if (error instanceof CodedError && spentKey.includes(error.code)) await dropPending(context)
    throw error
  }
}

/** The development issuer gives another token for the asking, so a fresh key is tried at once. */
const signInAtStack = async (
  context: Context,
  descriptor: Descriptor,
  stack: StackFile,
  subject: string,
): Promise<Session> => {
  const tokenFor = ({ kid: nonce }: PendingKey) => askIssuer(stack, { subject, nonce, audience: descriptor.gateway_id })
  try {
    return await signIn(context, descriptor, tokenFor)
  } catch (error) {
    if (!(error instanceof CodedError) || !spentKey.includes(error.code)) throw error
    return signIn(context, descriptor, tokenFor)
  }
}

/** Keeps what a sign-in gives, and says whose session it took the place of. */
const keepSignIn = async (
  context: Context,
  sign: () => Promise<Session>,
): Promise<{ session: Session; former: Session | undefined }> =>
  holdProfile(context, async () => {
    const session = await sign()
    const former = readProfile(context.edge.profileFile).session
    await keepSession(context, session)
    return { session, former }
  })

/** `lf login`: registers a session key for the account that a token names. */
export const login = async (context: Context, given: LoginArguments): Promise<void> => {
  const { config, output } = context
  const stack = given.dev ? readStack(given.stack, config.cwd) : undefined
  const descriptor = descriptorOf(context, context.gatewayFile ?? stack?.gateway.descriptor)
  if (given.nonce) {
    const { kid } = await holdProfile(context, () => pendingKey(context))
    output.result({ ok: true, nonce: kid, audience: descriptor.gateway_id }, [kid])
    return
  }
  const { tokenFile } = given
  if (stack === undefined && tokenFile === undefined) {
    throw new CodedError('usage', 'give --token-file FILE, or --dev with a local stack')
  }
  // Read before anything is held: standard input may be a person's.
  const token = tokenFile === undefined ? '' : readToken(tokenFile)
  const { session, former } = await keepSignIn(context, () =>
    stack === undefined
      ? signIn(context, descriptor, async () => token)
      : signInAtStack(context, descriptor, stack, given.as ?? config.userName),
  )
  const { gateway_id, lenser: lenser_id, expires_at } = session
  output.result({ ok: true, lenser_id, gateway_id, session: session.kid, expires_at }, [
    `Signed in as Lenser ${lenser_id} at ${descriptor.url} (gateway ${gateway_id}) until ${timeOf(expires_at)}.`,
  ])
  if (former !== undefined && former.kid !== session.kid && former.expires_at * 1000 > Date.now()) {
    const whose = former.lenser === session.lenser ? '' : `, of Lenser ${former.lenser},`
    output.note(
      `The sign-in before${whose} goes on at the gateway: its account ends it with \`lf sessions revoke ${former.kid}\`.`,
    )
  }
  if (config.apiKey() !== undefined) {
    output.note('LENSERFIGHT_API_KEY is set, and goes before this sign-in until you unset it.')
  }
}
