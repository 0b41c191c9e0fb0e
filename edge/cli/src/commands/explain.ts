import { newestRun } from '@lenserfight/daemon/client'
import { CodedError, remedyOf, Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Context } from '../context.ts'
import { describeExplanation } from '../explain/describe.ts'
import { plain } from '../output.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { deviceMeant } from '../owner/devices.ts'
import { askWhy } from '../owner/explain.ts'

/** The newest run of this machine. @throws CodedError `usage` where it knows none */
const ownNewest = (context: Context): string => {
  const run = newestRun(context.store())
  if (run === undefined) {
    throw new CodedError('usage', 'this machine knows no run of its own: name one, a submission or a device')
  }
  return run
}

/** What is not a whole id means a device. @throws CodedError `nothing_to_explain`, `usage` where several are meant */
const idOf = async (owner: Owner, given: string): Promise<string> => {
  if (Check(Uuid, given)) return given
  const device = await deviceMeant(owner, given)
  if (device !== undefined) return device.device_id
  const detail = 'runs and submissions are named by their whole id, devices also by name or 8 or more characters of it'
  throw new CodedError('nothing_to_explain', `${plain(given)}: ${detail}`)
}

/**
 * `lf gateway explain`: the level of a run, a submission or a device, each rule with what it was judged by, the first that failed,
 * and the one command that would fix it.
 */
export const explain = async (context: Context, given: string | undefined): Promise<void> => {
  const named = given ?? ownNewest(context)
  await asOwner(context, async (owner) => {
    const explanation = await askWhy(owner, await idOf(owner, named))
    const remedy = remedyOf(explanation)
    const lines = describeExplanation(explanation, remedy, context.output)
    context.output.result({ ok: true, ...explanation, remedy }, lines)
  })
}
