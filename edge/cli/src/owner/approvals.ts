import { CodedError, Nullable, outcomeOf, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'
import { askWhy } from './explain.ts'
import { meantBy, severalMeant } from './find.ts'
import { listRuns } from './runs.ts'

const Approval = Type.Object({
  run_id: Uuid,
  device_id: Uuid,
  device_name: Type.String(),
  runner_id: Nullable(Uuid),
  runner_name: Nullable(Type.String()),
  /** What the device calls the run; nothing rests on it. */
  label: Nullable(Type.String()),
  /** The beginning of the hash of what is to run. */
  command_hash: Type.String(),
  submission_id: Nullable(Uuid),
  version_id: Nullable(Uuid),
  requested_at: Type.Number(),
  expires_at: Type.Number(),
  /** Null where nobody answered, in time or yet; `withdraw` where its device waited no longer. */
  decision: Nullable(Type.Enum(['approve', 'deny', 'withdraw'])),
  decided_at: Nullable(Type.Number()),
  reason: Nullable(Type.String()),
})
/** A run that awaits a person, or did. Times are Unix seconds. */
export type Approval = Static<typeof Approval>

export interface Approvals {
  readonly approvals: Approval[]
  /** There are some that this answer has no room for. */
  readonly more: boolean
}

/** @throws CodedError `internal_error` where the answer is none of runs */
export const approvalsOf = ({ approvals, more }: Readonly<Record<string, unknown>>): Approvals => {
  if (!Check(Type.Array(Approval), approvals)) throw new CodedError('internal_error', 'the list is not one of runs')
  return { approvals, more: more === true }
}

/** Runs that await a person, before those that were decided of late; of one run alone where it is named. */
export const listApprovals = async (owner: Owner, run?: string): Promise<Approvals> =>
  approvalsOf(await owner.request('approvals', run === undefined ? {} : { run_id: run }))

/** Whether a person can still answer, by this machine's clock; the gateway's decides. @param now milliseconds since 1970 */
export const isPending = ({ decision, expires_at }: Approval, now = Date.now()): boolean =>
  decision === null && expires_at > now / 1000

/** How many of the account's newest runs the beginning of an id is looked for among. */
const newestRuns = 200
const whatIsMeant =
  'a run’s id, or its first 8 characters and as many more as tell it from others; `lf gateway approvals` lists those that wait'

/** What is said of a run that is in no list of approvals: as what it is, if it is one of the account's. */
const unlisted = async (owner: Owner, given: string): Promise<CodedError> => {
  const named = Check(Uuid, given)
    ? [given]
    : (await listRuns(owner, { limit: newestRuns })).runs.map((run) => run.run_id)
  const [run, ...others] = meantBy(named, given, { idOf: (each) => each })
  const unknown = new CodedError('unknown_run', `${plain(given)}: ${whatIsMeant}`)
  if (run === undefined) return unknown
  if (others.length > 0) return severalMeant(given, [run, ...others])
  try {
    const explanation = await askWhy(owner, run)
    const outcome = outcomeOf(explanation) ?? 'It is attested.'
    return explanation.kind === 'run' ? new CodedError('approval_not_pending', `${run}: ${plain(outcome)}`) : unknown
  } catch (error) {
    if (error instanceof CodedError && error.code === 'nothing_to_explain') return unknown
    throw error
  }
}

/**
 * The one listed run that an id or a unique beginning of one (8 characters or more) means, those without an answer before others.
 * @throws CodedError `unknown_run`; `approval_not_pending` of one that never awaited a person, or long ago; `usage` where several are meant
 */
export const findApproval = async (owner: Owner, given: string): Promise<Approval> => {
  // A whole id reaches one that a full list has no room for.
  const { approvals } = await listApprovals(owner, Check(Uuid, given) ? given : undefined)
  const meant = meantBy(approvals, given, { idOf: (each) => each.run_id })
  const waiting = meant.filter(({ decision }) => decision === null)
  const [found, ...others] = waiting.length > 0 ? waiting : meant
  if (found === undefined) throw await unlisted(owner, given)
  if (others.length === 0) return found
  throw severalMeant(
    given,
    [found, ...others].map((each) => each.run_id),
  )
}
