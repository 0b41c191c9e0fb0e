import { newUuidV7 } from '@lenserfight/envelope'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { confirm, leaveAsIs } from '../devices/confirm.ts'
import { describe } from '../devices/describe.ts'
import { plain } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { type Device, findDevice } from '../owner/devices.ts'

/** Refuses before anyone is asked whether to approve what cannot be approved. */
const checkApprovable = ({ trust_level, trust_reason, challenge_verified, legacy }: Device): void => {
  if (trust_level === 'revoked' || trust_level === 'blocked') throw new CodedError(`device_${trust_level}`)
  if (trust_level === 'pending' && !challenge_verified && !legacy) throw new CodedError('awaiting_device_challenge')
  if (trust_level === 'unhealthy') {
    throw new CodedError(trust_reason === 'identity_forked' ? 'identity_forked' : 'device_unhealthy')
  }
}

const questionOf = ({ legacy }: Device): string =>
  legacy
    ? 'It was imported without a key, so nothing proves which machine it is, and it can sign nothing. Approve it?'
    : 'Does that machine show these eight words, by `lf gateway identity show`?'

/** `lf gateway approve-device`: the owner's half of enrolling a device. Exit code 1 where the owner did not approve. */
export const approveDevice = (
  context: Context,
  { id, yes }: { id: string; yes: boolean },
): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const device = await findDevice(owner, id)
    checkApprovable(device)
    for (const line of describe(device)) output.note(line)
    const wasApproved = device.trust_level !== 'pending'
    if (!wasApproved && !yes && !(await confirm(context, questionOf(device)))) return leaveAsIs(context, device)
    const result = await owner.request('approve', { op_id: newUuidV7(), device_id: device.device_id })
    const how = wasApproved
      ? ' It was approved already.'
      : result.legacy === true
        ? ' It was approved in one step, without a key, and cannot sign.'
        : ''
    output.result({ ok: true, ...result }, [`${output.good(String(result.trust_level))}: ${plain(device.name)}.${how}`])
    return undefined
  })
