import { newestRun } from '@lenserfight/daemon/client'
import { CodedError, remedyOf, Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Context } from '../context.ts'
import { describeExplanation } from '../explain/describe.ts'
import { plain } from '../output.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { deviceMeant } from '../owner/devices.ts'
import { askWhy } from '../owner/explain.ts'
import { runMeant } from '../owner/runs.ts'

/** The newest run of this machine. @throws CodedError `usage` where it knows none */
const ownNewest = (context: Context): string => {
  const run = newestRun(context.store())
  if (run === undefined) {
    throw new CodedError('usage', 'this machine knows no run of its own: name one, a submission or a device')
  }
  return run
}

/** What is not a whole id means a device, or one of the latest runs. @throws CodedError `nothing_to_explain`, `usage` where several are meant */
const idOf = async (owner: Owner, given: string): Promise<string> => {
  if (Check(Uuid, given)) return given
  const device = await deviceMeant(owner, given, { amongRevoked: true })
  const id = device?.device_id ?? (await runMeant(owner, given))
  if (id !== undefined) return id
  const detail =
    'the whole id of any; of a device or a late run 8 or more characters that only its id begins with; a device’s name'
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
