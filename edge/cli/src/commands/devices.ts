import { createInterface } from 'node:readline/promises'
import { newUuidV7 } from '@lenserfight/envelope'
import { CodedError, type DeviceLevel } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { plain, tableOf } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { type Device, findDevice, lastSeen, listDevices } from '../owner/devices.ts'

const levelOf = ({ trust_level, challenge_verified }: Device): string =>
  trust_level === 'pending' && challenge_verified ? 'pending, ready to approve' : trust_level

/** `lf gateway devices`: the account's devices. */
export const devices = (context: Context, { trust }: { trust?: DeviceLevel | undefined }): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listDevices(owner, trust)
    const rows = list.devices.map((device) => [
      device.device_id,
      plain(device.name),
      device.device_type,
      levelOf(device),
      lastSeen(device),
      device.fingerprint.slice(0, 19),
    ])
    const header = ['ID', 'NAME', 'TYPE', 'LEVEL', 'HEARTBEAT', 'KEY']
    context.output.result({ ok: true, ...list }, [
      ...(rows.length === 0
        ? ['No devices. Enrol this machine with `lf gateway identity init`.']
        : tableOf([header, ...rows])),
      ...(list.more ? ['… and more; narrow it with --trust.'] : []),
    ])
  })

const confirm = async (context: Context, question: string): Promise<boolean> => {
  if (!process.stdin.isTTY) throw new CodedError('usage', 'not a terminal: say --yes to go on without being asked')
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await asking.question(`${question} [y/N] `)
    return /^y(es)?$/i.test(answer.trim())
  } finally {
    asking.close()
    context.output.note('')
  }
}

/** Nothing was done, because somebody did not want it: no failure, and no success to a script. */
const leaveAsIs = ({ output }: Context, { device_id, trust_level }: Device): number => {
  output.result({ ok: false, device_id, trust_level }, ['Nothing was changed.'])
  return 1
}

const describe = (device: Device): string[] => [
  `Name   ${plain(device.name)}`,
  `Type   ${plain(device.device_type)}`,
  `OS     ${plain(device.os)}`,
  `Key    ${device.fingerprint}`,
  `Level  ${levelOf(device)}`,
]

/** Refuses before anyone is asked whether to approve what cannot be approved. */
const checkApprovable = ({ trust_level, challenge_verified }: Device): void => {
  if (trust_level === 'revoked' || trust_level === 'blocked') throw new CodedError(`device_${trust_level}`)
  if (trust_level === 'pending' && !challenge_verified) throw new CodedError('awaiting_device_challenge')
}

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
    if (!yes && !(await confirm(context, 'Is this key shown on that machine, by `lf gateway identity show`?'))) {
      return leaveAsIs(context, device)
    }
    const result = await owner.request('approve', { op_id: newUuidV7(), device_id: device.device_id })
    output.result({ ok: true, ...result }, [`${output.good(String(result.trust_level))}: ${plain(device.name)}`])
    return undefined
  })

/** `lf gateway revoke-device`: for ever. Exit code 1 where the owner thought better of it. */
export const revokeDevice = (
  context: Context,
  { id, reason, yes }: { id: string; reason?: string | undefined; yes: boolean },
): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const device = await findDevice(owner, id)
    for (const line of describe(device)) output.note(line)
    if (!yes && !(await confirm(context, 'Revoke it for ever?'))) return leaveAsIs(context, device)
    const body = { op_id: newUuidV7(), device_id: device.device_id, ...(reason === undefined ? {} : { reason }) }
    const result = await owner.request('revoke', body)
    output.result({ ok: true, ...result }, [`${output.bad('revoked')}: ${plain(device.name)}, for ever.`])
    return undefined
  })
