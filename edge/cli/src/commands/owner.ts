import type { Context } from '../context.ts'
import { plain } from '../output.ts'
import { asOwner } from '../owner/connect.ts'

/** `lf gateway audit verify`: whether the account's audit chain is whole (AU-4). Whether it is, is the exit code too. */
export const verifyAudit = (context: Context): Promise<boolean> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const result = await owner.request('audit_verify', { chain_kind: 'gateway' })
    const { intact, entries, first_bad_index, reason } = result
    output.result({ ok: intact === true, ...result }, [
      intact === true
        ? `${output.good('intact')}: ${entries} ${entries === 1 ? 'entry' : 'entries'}`
        : `${output.bad('broken')} at entry ${first_bad_index}: ${plain(String(reason))}`,
    ])
    return intact === true
  })
