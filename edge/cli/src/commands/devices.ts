import type { DeviceLevel } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { describe, rowOf, tableHeader, wordsOf } from '../devices/describe.ts'
import { tableOf } from '../output.ts'
import { asOwner } from '../owner/connect.ts'
import { type Device, listDevices } from '../owner/devices.ts'

export interface DevicesArguments {
  readonly trust?: DeviceLevel | undefined
  readonly pending: boolean
}

const none = {
  all: 'No devices. Enrol this machine with `lf gateway identity init`.',
  trust: 'No device of that level.',
  pending: 'No device awaits approval.',
} as const

/** Those that await approval, each with the words that its machine shows. */
const pendingLines = (devices: readonly Device[]): string[] =>
  devices.flatMap((device) => [
    ...describe(device),
    ...(device.challenge_verified || device.legacy
      ? [`Next        \`lf gateway approve-device ${device.device_id}\``]
      : ['Next        `lf gateway serve` on that machine, then approve it here']),
    '',
  ])

/** `lf gateway devices`: the account's devices. */
export const devices = (context: Context, { trust, pending }: DevicesArguments): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listDevices(owner, pending ? 'pending' : trust)
    const shown = list.devices.map((device) => ({ ...device, words: wordsOf(device) || null }))
    const nothing = pending ? none.pending : trust === undefined ? none.all : none.trust
    const lines = pending
      ? pendingLines(list.devices)
      : tableOf([tableHeader, ...list.devices.map((each) => rowOf(each))])
    context.output.result({ ok: true, devices: shown, more: list.more }, [
      ...(list.devices.length === 0 ? [nothing] : lines),
      ...(list.more ? ['… and more; narrow it with --trust.'] : []),
    ])
  })
