import type { Context } from '../context.ts'
import { plain, tableOf, timeOf } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { holdProfile } from '../owner/profile-lock.ts'
import { forgetSession } from '../owner/session-keys.ts'
import {
  type AccountSession,
  endOwnSession,
  endSession,
  findSession,
  isLiving,
  listSessions,
} from '../owner/sessions.ts'
import { readProfile } from '../profile.ts'

export const stateOf = (session: AccountSession): string => {
  if (session.revoked_at !== null) return `revoked ${timeOf(session.revoked_at)}`
  return `${isLiving(session) ? 'until' : 'ended'} ${timeOf(session.expires_at)}`
}

const rowOf = (session: AccountSession): string[] => [
  session.session,
  session.name === null ? 'sign-in' : `API key ${plain(session.name)}`,
  plain(session.machine ?? ''),
  session.scope,
  timeOf(session.created_at),
  `${stateOf(session)}${session.current ? ' (this one)' : ''}`,
]

/** `lf sessions`: the account's sign-ins and API keys. */
export const sessions = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listSessions(owner)
    context.output.result({ ok: true, ...list }, [
      ...tableOf([['ID', 'WHAT', 'MACHINE', 'SCOPE', 'SINCE', 'STATE'], ...list.sessions.map(rowOf)]),
      ...(list.more ? ['… and more.'] : []),
    ])
  })

/** Ends one of the account's sessions, by whom `kinds` allows; this machine's own is forgotten with it. */
export const revokeSession = (
  context: Context,
  given: string,
  ofKind?: (session: AccountSession) => boolean,
): Promise<void> =>
  asOwner(context, async (owner) => {
    const found = await findSession(owner, given, ofKind)
    await (found.current ? endOwnSession(owner) : endSession(owner, found.session))
    const isOurs = await holdProfile(context, async () => {
      if (readProfile(context.edge.profileFile).session?.kid !== found.session) return false
      await forgetSession(context)
      return true
    })
    const what = found.name === null ? 'The session' : `API key ${plain(found.name)}`
    context.output.result({ ok: true, session: found.session, name: found.name, was_own: isOurs }, [
      `${what} (${found.session}) has ended: nothing that it signs is accepted any more.`,
      ...(isOurs ? ['It was the one of this machine: `lf login` signs in again.'] : []),
    ])
  })
