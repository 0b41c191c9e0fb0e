import { newUuidV7 } from '@lenserfight/envelope'
import { CodedError, sessionScopes, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const AccountSession = Type.Object({
  session: Uuid,
  kind: Type.Union([Type.Literal('sign-in'), Type.Literal('api_key')]),
  name: Nullable(Type.String()),
  /** What it called the machine that it was made on; nobody checked it. */
  machine: Type.Optional(Nullable(Type.String())),
  scope: Type.Union(sessionScopes.map((scope) => Type.Literal(scope))),
  created_at: Type.Number(),
  expires_at: Type.Number(),
  revoked_at: Nullable(Type.Number()),
  current: Type.Boolean(),
})
/** One of the account's sessions, as the gateway shows it. Times are Unix seconds. */
export type AccountSession = Static<typeof AccountSession>

/** The account's sessions, API keys among them; living ones first. */
export const listSessions = async (owner: Owner): Promise<{ sessions: AccountSession[]; more: boolean }> => {
  const { sessions, more } = await owner.request('sessions', {})
  if (!Check(Type.Array(AccountSession), sessions)) {
    throw new CodedError('internal_error', 'the list is not one of sessions')
  }
  return { sessions, more: more === true }
}

export const isLiving = ({ revoked_at, expires_at }: AccountSession, now = Date.now()): boolean =>
  revoked_at === null && expires_at * 1000 > now

const whatIsMeant =
  'an id, its first 8 characters and as many more as tell it from others, or an API key’s name, as `lf api-keys` lists them'

/** A part of an id that is long enough to mean one. */
const partForm = /^[0-9a-f]{8}[0-9a-f-]{0,28}$/

/**
 * The one session that an id, its beginning (8 characters at least) or the name of a living API key means.
 * @throws CodedError `session_not_found`, `usage` where a beginning is that of several
 */
export const findSession = async (
  owner: Owner,
  given: string,
  ofKind: (session: AccountSession) => boolean = () => true,
): Promise<AccountSession> => {
  const sessions = (await listSessions(owner)).sessions.filter(ofKind)
  const named = sessions.find((each) => each.session === given || (each.name === given && isLiving(each)))
  const begun = partForm.test(given) ? sessions.filter(({ session }) => session.startsWith(given)) : []
  if (named === undefined && begun.length > 1) throw new CodedError('usage', `several begin with ${given}`)
  const found = named ?? begun[0]
  if (found === undefined) throw new CodedError('session_not_found', `${plain(given)}: ${whatIsMeant}`)
  return found
}

/** Ends a session of the account for ever. */
export const endSession = async (owner: Owner, session: string): Promise<void> => {
  await owner.request('session_revoke', { op_id: newUuidV7(), session })
}

/**
 * Ends the session that asks. Its connection is cut with it, perhaps before the answer came; asked again, the gateway says
 * that it has ended.
 */
export const endOwnSession = async (owner: Owner): Promise<void> => {
  try {
    await endSession(owner, owner.session.kid)
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'session_expired') throw error
  }
}
