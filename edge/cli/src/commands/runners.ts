import { newUuidV7 } from '@lenserfight/envelope'
import type { Context } from '../context.ts'
import { enrolledHere } from '../daemon.ts'
import { plain, tableOf } from '../output.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { findDevice } from '../owner/devices.ts'
import { findRunner, listRunners } from '../owner/runners.ts'
import { boundLine, rowOf, runnersHeader, unboundLines } from '../runners/describe.ts'

/** `lf gateway runners`: what runs for the account, and on which device (RH-1). */
export const runners = (context: Context): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listRunners(owner)
    const none = 'No runners. Bind one to this machine with `lf gateway runners bind nightly`, by any name.'
    context.output.result({ ok: true, ...list }, [
      ...(list.runners.length === 0 ? [none] : tableOf([runnersHeader, ...list.runners.map((each) => rowOf(each))])),
      ...unboundLines(list.runners),
      ...(list.more ? ['… and more.'] : []),
    ])
  })

/** The device that is named, or this machine. */
const deviceFor = async (context: Context, owner: Owner, given: string | undefined) => {
  if (given !== undefined) return findDevice(owner, given)
  const { device_id, name } = enrolledHere(context)
  return { device_id, name }
}

/** `lf gateway runners bind`: makes the named runner where there is none, and binds it to one device (RH-1). */
export const bindRunner = (
  context: Context,
  { name, device: given }: { name: string; device?: string | undefined },
): Promise<void> =>
  asOwner(context, async (owner) => {
    const { device_id, name: device_name } = await deviceFor(context, owner, given)
    const result = await owner.request('runner_bind', { op_id: newUuidV7(), name, device_id })
    context.output.result({ ok: true, ...result, device_name }, [
      boundLine({ name, runner_id: result.runner_id, where: `${plain(device_name)} (${device_id})` }, result),
    ])
  })

/** `lf gateway runners unbind`: ends a runner's binding; ending it again changes nothing. */
export const unbindRunner = (context: Context, given: string): Promise<void> =>
  asOwner(context, async (owner) => {
    const { runner_id, name, device_name } = await findRunner(owner, given)
    const result = await owner.request('runner_unbind', { op_id: newUuidV7(), runner_id })
    context.output.result({ ok: true, ...result }, [
      device_name === null
        ? `Runner ${plain(name)} (${runner_id}) was bound to no device.`
        : `Runner ${plain(name)} (${runner_id}) no longer runs on ${plain(device_name)}. What it runs there and has not attested yet reaches device_verified at most.`,
    ])
  })
