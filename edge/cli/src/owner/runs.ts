import {
  CodedError,
  executionLevels,
  limits,
  Nullable,
  policyReasons,
  policyVerdicts,
  type runStates,
  Uuid,
} from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { plain } from '../output.ts'
import type { Owner } from './connect.ts'
import { meantBy, severalMeant } from './find.ts'

const Time = Nullable(Type.Number())
const Run = Type.Object({
  run_id: Uuid,
  /** What the device calls the run; nothing rests on it. */
  label: Nullable(Type.String()),
  /** The beginning of the hash of what is to run. */
  command_hash: Type.String(),
  device_id: Uuid,
  device_name: Type.String(),
  runner_id: Nullable(Uuid),
  runner_name: Nullable(Type.String()),
  /** What the policy said last, and why. */
  verdict: Nullable(Type.Enum([...policyVerdicts])),
  reason: Nullable(Type.Enum([...policyReasons])),
  asked_at: Type.Number(),
  /** Until when a person can answer; null where none is awaited. */
  awaits_until: Time,
  /** Until when it counts as under way; null where it does not. */
  open_until: Time,
  /** All null where nothing is attested. Started and ended by the device’s word. */
  attested_at: Time,
  started_at: Time,
  ended_at: Time,
  exit_code: Time,
  signal: Nullable(Type.String()),
  level: Type.Enum([...executionLevels]),
})
/** One of the account's runs, as the gateway shows it. Times are Unix seconds. */
export type Run = Static<typeof Run>

export interface Runs {
  readonly runs: Run[]
  /** There are older ones, or may be. */
  readonly more: boolean
  /** The run that those are older than; null where there are none. */
  readonly next: string | null
}

/** Which runs are meant; all of the account's where nothing is said. */
export interface RunsQuery {
  readonly device_id?: string
  readonly runner_id?: string
  readonly state?: (typeof runStates)[number]
  readonly limit?: number
  readonly before?: string
}

/** @throws CodedError `internal_error` where the answer is none of runs */
export const runsOf = ({ runs, more, next }: Readonly<Record<string, unknown>>): Runs => {
  if (!Check(Type.Array(Run), runs)) throw new CodedError('internal_error', 'the list is not one of runs')
  return { runs, more: more === true, next: typeof next === 'string' ? next : null }
}

/** The account's runs, newest first. */
export const listRuns = async (owner: Owner, query: RunsQuery): Promise<Runs> =>
  runsOf(await owner.request('runs', { ...query }))

/** The run that a beginning of its id (8 characters or more) means, if any does. @throws CodedError `usage` where several are meant */
export const runAmong = (runs: readonly Run[], given: string): string | undefined => {
  const meant = meantBy(runs, given, { idOf: (each) => each.run_id }).map(({ run_id }) => run_id)
  if (meant.length <= 1) return meant[0]
  throw severalMeant(given, meant)
}

/**
 * The id of the run that is meant: a whole one as it stands, else what is meant among the account's latest runs.
 * @throws CodedError `usage` where several are meant
 */
export const runMeant = async (owner: Owner, given: string): Promise<string | undefined> =>
  Check(Uuid, given) ? given : runAmong((await listRuns(owner, { limit: limits.runsPerAnswer })).runs, given)

const whatIsMeant = `a run’s id, or its first 8 characters and as many more as tell it from the latest ${limits.runsPerAnswer} runs`

/** The run that is meant. @throws CodedError `unknown_run`, what `runMeant` throws */
export const findRun = async (owner: Owner, given: string): Promise<string> => {
  const found = await runMeant(owner, given)
  if (found === undefined) throw new CodedError('unknown_run', `${plain(given)}: ${whatIsMeant}`)
  return found
}
