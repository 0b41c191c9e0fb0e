import { newUuidV7 } from '@lenserfight/envelope'
import type { Context } from '../context.ts'
import { enrolledHere } from '../daemon.ts'
import { plain } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { findDevice } from '../owner/devices.ts'

/** `lf gateway runners bind`: makes the named runner where there is none, and binds it to one device (RH-1). */
export const bindRunner = (
  context: Context,
  { name, device }: { name: string; device?: string | undefined },
): Promise<void> =>
  asOwner(context, async (owner) => {
    const device_id =
      device === undefined ? enrolledHere(context).device_id : (await findDevice(owner, device)).device_id
    const result = await owner.request('runner_bind', { op_id: newUuidV7(), name, device_id })
    context.output.result({ ok: true, ...result }, [
      `Runner ${plain(name)} (${result.runner_id}) runs on ${device_id}.`,
    ])
  })

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
