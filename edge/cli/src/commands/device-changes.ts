import { newUuidV7 } from '@lenserfight/envelope'
import type { Context } from '../context.ts'
import { confirm, leaveAsIs } from '../devices/confirm.ts'
import { describe } from '../devices/describe.ts'
import { plain } from '../output.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { type Device, findDevice } from '../owner/devices.ts'
import { relativeTo, timeOf } from '../times.ts'

type Result = Readonly<Record<string, unknown>>

/** One change of one device, as an operation of its owner's. */
const change = (owner: Owner, kind: 'revoke' | 'suspend' | 'reinstate' | 'rotation_require', body: object) =>
  owner.request(kind, { op_id: newUuidV7(), ...body })

export interface RevokeArguments {
  readonly id: string
  readonly reason?: string | undefined
  /** Unix seconds. */
  readonly compromisedSince?: number | undefined
  readonly yes: boolean
}

/** What a revocation means, said before it is done. */
const whatFalls = (since: number | undefined): string[] => [
  'Never again: it signs nothing from now on, its connection is cut, its name becomes free. Nothing takes this back.',
  since === undefined
    ? 'What it attested before stays as it is. Was its key known to somebody else? Say since when: --compromised-since.'
    : `What it attested since ${timeOf(since)} (${relativeTo(since)}) no longer counts as a trusted device’s: those verdicts fall.`,
]

/** `lf gateway revoke-device`: for ever. Exit code 1 where the owner thought better of it. */
export const revokeDevice = (context: Context, given: RevokeArguments): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const { reason, compromisedSince: since } = given
    const device = await findDevice(owner, given.id)
    for (const line of [...describe(device), ...whatFalls(since)]) output.note(line)
    if (!given.yes && !(await confirm(context, 'Revoke it for ever?'))) return leaveAsIs(context, device)
    const result = await change(owner, 'revoke', {
      device_id: device.device_id,
      ...(reason === undefined ? {} : { reason }),
      ...(since === undefined ? {} : { compromised_since: since }),
    })
    output.result({ ok: true, ...result }, [`${output.bad('revoked')}: ${plain(device.name)}, for ever.`])
    return undefined
  })

/** A change that can be taken back, so nobody is asked. */
const changeDevice = (
  context: Context,
  id: string,
  act: (owner: Owner, device: Device) => Promise<{ result: Result; lines: readonly string[] }>,
): Promise<void> =>
  asOwner(context, async (owner) => {
    const { result, lines } = await act(owner, await findDevice(owner, id))
    context.output.result({ ok: true, ...result }, lines)
  })

/** `lf gateway suspend-device`: until its owner reinstates it, or it proves itself again. */
export const suspendDevice = (
  context: Context,
  { id, reason }: { id: string; reason?: string | undefined },
): Promise<void> =>
  changeDevice(context, id, async (owner, { device_id, name }) => {
    const body = { device_id, ...(reason === undefined ? {} : { reason }) }
    const result = await change(owner, 'suspend', body)
    const lines = [
      `${context.output.bad('suspended')}: ${plain(name)} runs and attests nothing.`,
      `It may prove itself again: \`lf gateway reinstate-device ${device_id}\`, or \`lf gateway identity reprove\` there.`,
    ]
    return { result, lines }
  })

const changedKeyQuestion =
  'Its key was replaced while it was suspended, as whoever held the one before may have done. Does that machine show these eight words, by `lf gateway identity show`?'

/** What the end of a suspension came to; the gateway says what happened in it. */
const reinstated = ({ output }: Context, device: Device, result: Result): string[] => {
  const { trust_level: before, name } = device
  const { trust_level: level, former_reason: reason, key_changed_while_unhealthy: isChanged } = result
  if (before !== 'unhealthy') return [`${output.good(String(level))}: ${plain(name)} was not suspended.`]
  const why = typeof reason === 'string' ? `, which was ${plain(reason)}` : ''
  return [
    `${output.good(String(level))}: ${plain(name)}${why}.`,
    ...(isChanged === true
      ? ['Its key was replaced meanwhile. Was that not you: `lf gateway suspend-device`, and find out.']
      : []),
  ]
}

/**
 * `lf gateway reinstate-device`: takes a suspension back. Asks only where the key changed in it: then it is not the device of
 * before that is let back in. Exit code 1 where the owner thought better of it.
 */
export const reinstateDevice = (
  context: Context,
  { id, yes }: { id: string; yes: boolean },
): Promise<number | undefined> =>
  asOwner(context, async (owner) => {
    const { output } = context
    const device = await findDevice(owner, id)
    if (device.trust_level === 'unhealthy') for (const line of describe(device)) output.note(line)
    const mustAsk = device.key_changed_while_unhealthy === true && !yes
    if (mustAsk && !(await confirm(context, changedKeyQuestion))) return leaveAsIs(context, device)
    const shown = typeof device.key_number === 'number' ? { key_number: device.key_number } : {}
    const result = await change(owner, 'reinstate', { device_id: device.device_id, ...shown })
    output.result({ ok: true, ...result }, reinstated(context, device, result))
    return undefined
  })

/** `lf gateway rotate-device`: brings the end of a device's key forward, so that its daemon makes another. */
export const rotateDevice = (context: Context, { id, within }: { id: string; within: number }): Promise<void> =>
  changeDevice(context, id, async (owner, { device_id, name }) => {
    const result = await change(owner, 'rotation_require', { device_id, within_seconds: within })
    const end = Number(result.key_expires_at)
    const lines = [
      within === 0
        ? `The key of ${plain(name)} has ended: its daemon rotates it at once.`
        : `The key of ${plain(name)} ends ${timeOf(end)}, ${relativeTo(end)}: its daemon rotates it before.`,
      'Where no daemon runs there, it may do nothing but rotate from then on: `lf gateway serve` on that machine.',
    ]
    return { result, lines }
  })
