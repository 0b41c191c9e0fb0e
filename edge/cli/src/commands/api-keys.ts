import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { plain, tableOf, timeOf } from '../output.ts'
import { newApiKey } from '../owner/api-key.ts'
import { asOwner } from '../owner/connect.ts'
import { type AccountSession, listSessions } from '../owner/sessions.ts'
import { revokeSession, stateOf } from './sessions.ts'

const isApiKey = ({ kind }: AccountSession): boolean => kind === 'api_key'

export interface CreateArguments {
  readonly name: string
  readonly mayApprove: boolean
  readonly expiresInDays: number
}

/** `lf api-keys create`: makes an API key here, has the gateway vouch for its public half, and shows it once. */
export const createApiKey = (context: Context, given: CreateArguments): Promise<void> =>
  asOwner(context, async (owner) => {
    const { name, mayApprove: may_approve, expiresInDays: expires_in_days } = given
    const { text, keys, kid } = newApiKey(owner.session.lenser)
    const body = { op_id: newUuidV7(), name, public_key: encodeKey(keys.publicKey), may_approve, expires_in_days }
    const { scope, expires_at } = await owner.request('api_key_create', body).catch((error: unknown) => {
      // It may have been made, and nobody has seen it: a key that is of no use to anybody.
      if (!(error instanceof CodedError) || error.code !== 'answer_timeout') throw error
      throw new CodedError(error.code, `revoke ${name} if \`lf api-keys\` shows it`, { cause: error })
    })
    const { output } = context
    output.note(
      `API key ${plain(name)} (${kid}), ${scope === 'api' ? 'which may not approve devices' : 'which may approve devices'},`,
    )
    output.note(`until ${timeOf(Number(expires_at))}. It is shown this once: keep it as LENSERFIGHT_API_KEY.`)
    output.result({ ok: true, api_key: text, session: kid, name, scope, expires_at }, [text])
  })

/** `lf api-keys`: the account's API keys. */
export const apiKeys = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const { sessions, more } = await listSessions(owner)
    const keys = sessions.filter(isApiKey)
    const rows = keys.map((key) => [
      key.session,
      plain(key.name ?? ''),
      key.scope === 'api_approver' ? 'yes' : 'no',
      timeOf(key.created_at),
      stateOf(key),
    ])
    context.output.result({ ok: true, api_keys: keys, more }, [
      ...(rows.length === 0
        ? ['No API keys. `lf api-keys create NAME` makes one.']
        : tableOf([['ID', 'NAME', 'MAY APPROVE', 'SINCE', 'STATE'], ...rows])),
      ...(more ? ['… and more.'] : []),
    ])
  })

/** `lf api-keys revoke`: ends one, by its name or id. */
export const revokeApiKey = (context: Context, given: string): Promise<void> => revokeSession(context, given, isApiKey)
