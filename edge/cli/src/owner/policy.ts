import { approvalDefaults, CodedError, Nullable, policyReasons, policyVerdicts } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import type { Owner } from './connect.ts'

const Policy = Type.Object({
  settings: Type.Object({
    approval_default: Type.Enum([...approvalDefaults]),
    runner_paused: Type.Boolean(),
    /** Null: no bound. */
    daily_runs: Nullable(Type.Number()),
    max_parallel_runs: Nullable(Type.Number()),
    dark_launch_percent: Type.Number(),
    approval_seconds: Type.Number(),
    denied_tools: Type.Array(Type.String()),
    kill_switch: Type.Boolean(),
  }),
  used: Type.Object({ runs_today: Type.Number(), parallel_runs: Type.Number() }),
  /** Unix seconds; null where it was never changed. */
  changed_at: Nullable(Type.Number()),
})
/** The account's pre-run policy, and how much of it is used up. */
export type Policy = Static<typeof Policy>

const Answer = Type.Object({ verdict: Type.Enum([...policyVerdicts]), reason: Type.Enum([...policyReasons]) })
/** What the policy says of a run, and by which of its rules. */
export type PolicyAnswer = Static<typeof Answer>

/** @throws CodedError `internal_error` where the answer is no policy */
export const policyOf = (answer: unknown): Policy => {
  if (!Check(Policy, answer)) throw new CodedError('internal_error', 'the answer is not a policy')
  return answer
}

export const readPolicy = async (owner: Owner): Promise<Policy> => policyOf(await owner.request('policy_show', {}))

/** @throws CodedError `internal_error` where the answer is no verdict */
export const verdictOf = (answer: unknown): PolicyAnswer => {
  if (!Check(Answer, answer)) throw new CodedError('internal_error', 'the answer is not a verdict')
  return answer
}

/** What the policy would say of a run just now; nothing is recorded. */
export const askPolicy = async (owner: Owner, version_id?: string): Promise<PolicyAnswer> =>
  verdictOf(await owner.request('policy_test', version_id === undefined ? {} : { version_id }))
