import Type, { type Static } from '../typebox/index.mjs'
import { Nullable, UnixSeconds, Uuid } from './bodies/common.ts'
import {
  deviceLevels,
  type ExecutionFact,
  executionFacts,
  executionLevels,
  type PolicyReason,
  policyReasons,
} from './ladders.ts'
import { policyRemedies, policySentences, type Remedy } from './policy-words.ts'

/** What a device's level rests on, in the ladder's order (trust model, Device trust ladder). */
export const deviceFacts = [
  'challenge_answered',
  'owner_approved',
  'not_revoked',
  'not_blocked',
  'not_unhealthy',
  'key_in_force',
  'heard_lately',
  'heartbeat_days',
  'attestation_verified',
] as const
export type DeviceFact = (typeof deviceFacts)[number]

/** What each says, for people. */
export const deviceFactSentences: Record<DeviceFact, string> = {
  challenge_answered: 'the device proved that it holds its key',
  owner_approved: 'its owner approved it',
  not_revoked: 'its owner did not revoke it',
  not_blocked: 'the platform did not block it',
  not_unhealthy: 'nothing made it unhealthy',
  key_in_force: 'its key is not past its end',
  heard_lately: 'a heartbeat was stored within the last 24 hours',
  heartbeat_days: 'it was heard on enough days of the last 30',
  attestation_verified: 'an attestation of the last 30 days is verified',
}

const executionFactNames = Object.values(executionFacts).flat() as readonly ExecutionFact[]
const Inputs = Type.Record(Type.String(), Type.Unknown())
const closed = { additionalProperties: false } as const
const explanationOf = <K extends string, L extends string, F extends string>(
  kinds: readonly K[],
  levels: readonly L[],
  facts: readonly F[],
) =>
  Type.Object(
    {
      kind: Type.Enum([...kinds]),
      id: Uuid,
      level: Type.Enum([...levels]),
      /** When the level was derived; null where there was nothing to derive it from. */
      evaluated_at: Nullable(UnixSeconds),
      /** Names and times of what is explained. Whatever ends with `_at`, `_since` or `_until` is in Unix seconds. */
      subject: Inputs,
      /** Every rule of the ladder in its order, with the values that it was judged by; hashes shortened to 8 characters. */
      rules: Type.Array(
        Type.Object(
          { level: Type.Enum([...levels]), fact: Type.Enum([...facts]), holds: Type.Boolean(), inputs: Inputs },
          closed,
        ),
      ),
      /** The first that keeps it from the next level; null at the top. */
      first_failed: Nullable(Type.Enum([...facts])),
      /** Newest first, at most 20. */
      history: Type.Array(
        Type.Object(
          { level: Type.Enum([...levels]), reason: Nullable(Type.String()), at: Nullable(UnixSeconds) },
          closed,
        ),
        { maxItems: 20 },
      ),
    },
    closed,
  )

/** Why a run or a submission has its level: an answer to `explain`. */
export const ExecutionExplanation = explanationOf(['run', 'submission'], executionLevels, executionFactNames)
/** Why a device has its level. */
export const DeviceExplanation = explanationOf(['device'], deviceLevels, deviceFacts)
export const Explanation = Type.Union([ExecutionExplanation, DeviceExplanation])
export type ExecutionExplanation = Static<typeof ExecutionExplanation>
export type DeviceExplanation = Static<typeof DeviceExplanation>
export type Explanation = ExecutionExplanation | DeviceExplanation

type Values = Readonly<Record<string, unknown>>
/** @param inputs what the rule was judged by @param subject what is explained */
type Fix = (inputs: Values, subject: Values) => Remedy

const dashes = '-- COMMAND'
const quoted = (value: unknown, placeholder: string): string => (typeof value === 'string' ? value : placeholder)
const advise =
  (sentence: string, command: string | null = null): Fix =>
  () => ({ sentence, command })

const unattested: Fix = (_, { run_id }) => ({
  sentence:
    'It is under way, or it was started and never completed, or its device no longer waited. What its machine still has to tell the gateway, the outbox there shows.',
  command: typeof run_id === 'string' ? `lf gateway status` : null,
})

const distrusted: Fix = ({ device_id, device_level, compromised_since }) => {
  const device = quoted(device_id, 'DEVICE')
  if (device_level === 'unhealthy') {
    return {
      sentence: 'The device was unhealthy. What it runs once it is reinstated counts.',
      command: `lf gateway reinstate-device ${device}`,
    }
  }
  if (typeof compromised_since === 'number') {
    return {
      sentence: 'Others knew the device’s key when this was stored: it counts for nothing. Run it again elsewhere.',
      command: 'lf gateway devices --trust approved',
    }
  }
  return {
    sentence: 'The device was not approved when the attestation was stored. Run it again on one that is.',
    command: 'lf gateway devices --trust approved',
  }
}

const unpassed: Fix = (inputs, { run_id }) => {
  const { verdict, decision, withdrawn_reason, as_permitted, tools_attested, tools_logged } = inputs
  const { tools_denied, denied_tools } = inputs
  if (verdict === 'require_approval' && decision !== 'approve') {
    const run = quoted(run_id, 'RUN')
    return decision === 'deny'
      ? { sentence: 'Its owner denied it.', command: 'lf gateway approvals' }
      : { sentence: 'It awaited a person, and ran unapproved.', command: `lf gateway approvals approve ${run}` }
  }
  if (verdict === 'deny' || verdict === 'pause' || typeof withdrawn_reason === 'string') {
    return { sentence: 'The policy did not allow it, or not to its end.', command: 'lf gateway policy show' }
  }
  if (as_permitted === false) {
    return {
      sentence: 'What was attested is not what was permitted: command, inputs, hashes or names differ. Run it again.',
      command: `lf run ${dashes}`,
    }
  }
  if (typeof tools_denied === 'number' && tools_denied > 0) {
    const names = Array.isArray(denied_tools) && denied_tools.length > 0 ? `: ${denied_tools.join(', ')}` : ''
    return { sentence: `It asked for what the policy denies${names}.`, command: 'lf gateway policy show' }
  }
  if (tools_attested !== tools_logged) {
    return { sentence: 'Its tool log is not whole. Run it again.', command: `lf run ${dashes}` }
  }
  return {
    sentence: 'Its permit did not cover it from its start to its end: keep the daemon connected, and run it again.',
    command: 'lf gateway doctor',
  }
}

const executionFixes: Readonly<Record<ExecutionFact, Fix>> = {
  requester_is_submitter: (_, { run_id }) =>
    typeof run_id === 'string'
      ? {
          sentence: 'The submission is another account’s than the run’s: a run backs its own account’s.',
          command: null,
        }
      : { sentence: 'Nothing was run for this submission.', command: `lf run --submission SUBMISSION ${dashes}` },
  contender_is_agent: advise(
    'It ran for a person, or for nobody. Run it for an agent, or with a runner.',
    `lf run --runner RUNNER ${dashes}`,
  ),
  contender_owned: advise(
    'The contender was not the account’s, or not its submission’s. Run it for one of the account’s own.',
    `lf run --contender CONTENDER ${dashes}`,
  ),
  attested: unattested,
  device_trusted: distrusted,
  heartbeat_fresh: ({ runner_id }) => ({
    sentence:
      typeof runner_id === 'string'
        ? 'The runner was not heard in the five minutes before. Keep the daemon running, and run it again.'
        : 'The device was not heard in the five minutes before. Keep the daemon running, and run it again.',
    command: 'lf gateway serve',
  }),
  version_unchanged: ({ version_id }) => ({
    sentence: 'What ran is not the pinned lens version as it was. Run it again with the version as it is now.',
    command: `lf run --lens-version ${quoted(version_id, 'VERSION')} ${dashes}`,
  }),
  runner_named: advise('The run names no runner.', `lf run --runner RUNNER ${dashes}`),
  binding_active: (_, { runner_name }) => ({
    sentence: 'The runner was not bound to this device all the while. Bind it, and run it again.',
    command: `lf gateway runners bind ${typeof runner_name === 'string' && /^[\w.-]+$/.test(runner_name) ? runner_name : 'NAME'}`,
  }),
  signed: advise('Its envelope did not verify. Run it again.', `lf run ${dashes}`),
  gateway_verified: advise(
    'What the gateway verified then was declared void by its platform. Run it again.',
    `lf run ${dashes}`,
  ),
  policy_passed: unpassed,
  workflow_hash: advise(
    'It was pinned to no workflow. Run it with a lens version that names one.',
    `lf run --lens-version VERSION ${dashes}`,
  ),
  lens_hash: advise('It was pinned to no lens version.', `lf run --lens-version VERSION ${dashes}`),
}

const deviceFixes: Readonly<Record<DeviceFact, (id: string, inputs: Values) => Remedy>> = {
  challenge_answered: () => ({
    sentence: 'The device has not proved its key. On that machine:',
    command: 'lf gateway identity init',
  }),
  owner_approved: (id) => ({ sentence: 'Its owner approves it.', command: `lf gateway approve-device ${id}` }),
  not_revoked: () => ({
    sentence: 'It was revoked, for ever. That machine can be enrolled again, as another device.',
    command: 'lf gateway identity init',
  }),
  not_blocked: () => ({ sentence: 'The platform blocked it, and it alone lifts that.', command: null }),
  not_unhealthy: (id, { reason }) =>
    reason === 'identity_forked'
      ? { sentence: 'Two hold its key. On that machine, give it another:', command: 'lf gateway identity reprove' }
      : { sentence: 'Its owner reinstates it.', command: `lf gateway reinstate-device ${id}` },
  key_in_force: () => ({
    sentence: 'Its key is past its end. On that machine:',
    command: 'lf gateway identity rotate',
  }),
  heard_lately: () => ({
    sentence: 'Nothing was heard of it for a day. Start its daemon there:',
    command: 'lf gateway serve',
  }),
  heartbeat_days: (_, { days, needed }) => ({
    sentence: `It was heard on ${Number(days)} of ${Number(needed)} days. Keep its daemon running.`,
    command: 'lf gateway serve',
  }),
  attestation_verified: () => ({
    sentence: 'It attested nothing of late. Run something on it.',
    command: `lf run ${dashes}`,
  }),
}

const isOfDevice = (explanation: Explanation): explanation is DeviceExplanation => explanation.kind === 'device'

/** How far a run came that nothing was attested of, with the policy's word on it. */
interface Unattested {
  readonly state: 'refused' | 'awaiting' | 'denied' | 'expired' | 'given_up' | 'allowed' | 'approved' | 'withdrawn'
  readonly reason: PolicyReason
}

const reasonOf = (value: unknown): PolicyReason | undefined => policyReasons.find((each) => each === value)
const inputsOf = ({ rules }: Explanation, fact: ExecutionFact | DeviceFact): Values =>
  rules.find((rule) => rule.fact === fact)?.inputs ?? {}

/** Undefined where something was attested, or nothing was asked to run. */
const unattestedOf = (explanation: Explanation): Unattested | undefined => {
  const attested = explanation.rules.find(({ fact }) => fact === 'attested')
  if (attested === undefined || attested.holds || typeof attested.inputs.attestation_id === 'string') return undefined
  const { verdict, reason, decision, answer_expired, withdrawn_reason } = inputsOf(explanation, 'policy_passed')
  const told = (state: Unattested['state'], why: unknown): Unattested | undefined => {
    const known = reasonOf(why)
    return known && { state, reason: known }
  }
  if (verdict === 'deny' || verdict === 'pause') return told('refused', reason)
  if (verdict === 'require_approval' && decision !== 'approve') {
    if (decision === 'deny') return told('denied', 'approval_denied')
    if (withdrawn_reason === 'withdrawn') return told('given_up', withdrawn_reason)
    return answer_expired === true ? told('expired', 'approval_expired') : told('awaiting', reason)
  }
  if (typeof withdrawn_reason === 'string') return told('withdrawn', withdrawn_reason)
  return verdict === 'require_approval' ? told('approved', 'approved') : told('allowed', reason)
}

const neverRunning: readonly Unattested['state'][] = ['refused', 'denied', 'expired', 'given_up']
const neverRan = (unattested: Unattested | undefined): boolean =>
  unattested !== undefined && neverRunning.includes(unattested.state)

const stateWords: Record<Unattested['state'], string> = {
  refused: 'refused',
  awaiting: 'not decided yet',
  denied: 'denied',
  expired: 'expired',
  given_up: 'taken back',
  allowed: 'allowed',
  approved: 'approved',
  withdrawn: 'allowed at first, then withdrawn',
}

/** Why the policy ended a run on its way that is attested; undefined where it did not. */
const endedMidwayBy = (explanation: Explanation): PolicyReason | undefined => {
  if (unattestedOf(explanation) !== undefined) return undefined
  const { verdict, decision, withdrawn_reason, withdrawn_at, claimed_end_at } = inputsOf(explanation, 'policy_passed')
  const wasAllowed = verdict === 'allow' || (verdict === 'require_approval' && decision === 'approve')
  const wasBeforeItsEnd = Number(withdrawn_at ?? Number.NaN) <= Number(claimed_end_at ?? Number.NaN)
  return wasAllowed && wasBeforeItsEnd ? reasonOf(withdrawn_reason) : undefined
}

/** What became of a run that nothing was attested of, or that was ended on its way, for people; else null. Pure. */
export const outcomeOf = (explanation: Explanation): string | null => {
  const midway = endedMidwayBy(explanation)
  if (midway !== undefined)
    return `${stateWords.withdrawn}: ${policySentences[midway]} (${midway}). What ran is attested.`
  const unattested = unattestedOf(explanation)
  if (unattested === undefined) return null
  const { state, reason } = unattested
  const { decision_reason } = inputsOf(explanation, 'policy_passed')
  const isAnswer = state === 'denied' || state === 'approved'
  const said = isAnswer && typeof decision_reason === 'string' ? `: ${decision_reason}` : ''
  const ran = neverRan(unattested) ? 'Nothing ran.' : state === 'awaiting' ? 'Nothing ran yet.' : 'Nothing is attested.'
  return `${stateWords[state]}: ${policySentences[reason]} (${reason})${said}. ${ran}`
}

const judgedOfAttestation: ReadonlySet<string> = new Set<ExecutionFact>([
  ...['device_trusted', 'heartbeat_fresh', 'version_unchanged', 'binding_active', 'signed', 'gateway_verified'],
  ...['policy_passed', 'workflow_hash', 'lens_hash'],
] as ExecutionFact[])

/** Whether a rule fails for want of an attestation alone, and not by what is known. Pure. */
export const isNotYet = (explanation: Explanation, { fact, holds }: Explanation['rules'][number]): boolean => {
  const isUnattested = explanation.rules.some((rule) => rule.fact === 'attested' && !rule.holds)
  if (holds || !isUnattested || !judgedOfAttestation.has(fact)) return false
  return fact !== 'policy_passed' || !neverRan(unattestedOf(explanation))
}

/** What ends what keeps a run from beginning at all, or kept it from its end; undefined where nothing does. */
const obstacleOf = (explanation: Explanation): Remedy | undefined => {
  const midway = endedMidwayBy(explanation)
  if (midway !== undefined) return policyRemedies[midway]
  const unattested = unattestedOf(explanation)
  if (unattested === undefined) return undefined
  const remedy = policyRemedies[unattested.reason]
  if (neverRan(unattested)) return remedy
  if (unattested.state !== 'awaiting' || remedy === undefined) return undefined
  const { run_id } = explanation.subject
  return { ...remedy, command: `lf gateway approvals approve ${quoted(run_id, 'RUN')}` }
}

/** What would raise the level: what lets the run begin, else for the first rule that failed. Null at the top. Pure. */
export const remedyOf = (explanation: Explanation): Remedy | null => {
  const { first_failed: fact, subject, id } = explanation
  if (fact === null) return null
  const inputs = inputsOf(explanation, fact)
  if (isOfDevice(explanation)) return deviceFixes[fact as DeviceFact](id, inputs)
  const remedy = obstacleOf(explanation) ?? executionFixes[fact as ExecutionFact](inputs, subject)
  const command = remedy.command?.replace('SUBMISSION', id) ?? null
  return { ...remedy, command }
}
