import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { asSignedIn } from '../owner/connect.ts'
import { holdProfile } from '../owner/profile-lock.ts'
import { forgetSession } from '../owner/session-keys.ts'
import { endOwnSession, endSession, isLiving, listSessions } from '../owner/sessions.ts'
import { readProfile, type Session } from '../profile.ts'

export interface LogoutArguments {
  readonly local?: boolean | undefined
  readonly all?: boolean | undefined
}

/** Ends the session at the gateway, with `all` every other sign-in of the account before it. Returns how many. */
const endAtGateway = (context: Context, all: boolean): Promise<number> =>
  asSignedIn(context, async (owner) => {
    const others = all
      ? (await listSessions(owner)).sessions.filter(
          (each) => each.kind === 'sign-in' && isLiving(each) && !each.current,
        )
      : []
    for (const { session } of others) await endSession(owner, session)
    await endOwnSession(owner)
    return others.length + 1
  })

/** The gateway says that the session is over: there is nothing left to end. */
const isOver = (error: unknown): boolean => error instanceof CodedError && error.code === 'session_expired'
/** Its key is gone from this machine, so nobody here can ask for its end. */
const hasNoKey = (error: unknown): boolean => error instanceof CodedError && error.code === 'not_signed_in'

/** Ends it, or says why not, and then nothing is forgotten here: who holds no key cannot end its session any more. */
const end = async (context: Context, session: Session, all: boolean): Promise<string> => {
  try {
    const ended = await endAtGateway(context, all)
    return ended === 1 ? 'Signed out.' : `Signed out, and ended ${ended - 1} other sign-ins.`
  } catch (error) {
    if (isOver(error)) return 'Signed out; the session had ended already.'
    if (hasNoKey(error))
      return `Signed out here. Its key was gone; end session ${session.kid} with \`lf sessions revoke\`.`
    if (error instanceof CodedError) {
      const why = [error.detail, 'the session goes on there: try again, or forget it here alone with --local']
      throw new CodedError(error.code, why.filter(Boolean).join('; '), { cause: error })
    }
    throw error
  }
}

/** `lf logout`: ends the session at the gateway, then forgets its key. */
export const logout = (context: Context, { local = false, all = false }: LogoutArguments): Promise<void> =>
  holdProfile(context, async () => {
    const { session } = readProfile(context.edge.profileFile)
    const told =
      session === undefined
        ? 'Nobody was signed in.'
        : local
          ? `Forgotten here. The session goes on at the gateway until it ends: \`lf sessions revoke ${session.kid}\`.`
          : await end(context, session, all)
    await forgetSession(context)
    context.output.result({ ok: true, was_signed_in: session !== undefined, ended: session !== undefined && !local }, [
      told,
    ])
  })
