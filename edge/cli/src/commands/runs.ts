import type { Context } from '../context.ts'
import { asOwner, type Owner } from '../owner/connect.ts'
import { findDevice } from '../owner/devices.ts'
import { findRunner } from '../owner/runners.ts'
import { findRun, listRuns, type RunsQuery } from '../owner/runs.ts'
import { listLines } from '../runs/describe.ts'

export interface RunsArguments {
  /** By id, beginning of an id, or name. */
  readonly device?: string | undefined
  readonly runner?: string | undefined
  readonly state?: 'awaiting' | 'open' | undefined
  readonly limit: number
  /** A run's id, or the beginning of one. */
  readonly before?: string | undefined
}

const queryOf = async (owner: Owner, args: RunsArguments): Promise<RunsQuery> => ({
  limit: args.limit,
  ...(args.device === undefined
    ? {}
    : { device_id: (await findDevice(owner, args.device, { amongRevoked: true })).device_id }),
  ...(args.runner === undefined ? {} : { runner_id: (await findRunner(owner, args.runner)).runner_id }),
  ...(args.state === undefined ? {} : { state: args.state }),
  ...(args.before === undefined ? {} : { before: await findRun(owner, args.before) }),
})

/** `lf gateway runs`: what the account asked to run, newest first, and what came of it. */
export const runs = (context: Context, args: RunsArguments): Promise<void> =>
  asOwner(context, async (owner) => {
    const list = await listRuns(owner, await queryOf(owner, args))
    const isFiltered = [args.device, args.runner, args.state, args.before].some((each) => each !== undefined)
    context.output.result({ ok: true, ...list }, listLines(list, context.output, isFiltered))
  })
