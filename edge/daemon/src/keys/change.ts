import type { Outcome } from '../outbox/decide.ts'
import type { Enrolled, KeyChange } from '../settings.ts'
import { fingerprintOf } from './fingerprint.ts'

/** What the gateway said of the key in force; absent where it did not say. `expiresAt` in Unix seconds. */
export interface KeyFacts {
  readonly number?: number | undefined
  readonly expiresAt?: number | undefined
  readonly fingerprint?: string | undefined
}

/** The key facts of a signed result, as far as they have their form. */
export const keyFactsOf = (result: Readonly<Record<string, unknown>> = {}): KeyFacts => {
  const { key_number: number, key_expires_at: expiresAt, fingerprint } = result
  return {
    ...(Number.isSafeInteger(number) && Number(number) > 0 ? { number: Number(number) } : {}),
    ...(Number.isSafeInteger(expiresAt) && Number(expiresAt) >= 0 ? { expiresAt: Number(expiresAt) } : {}),
    ...(typeof fingerprint === 'string' ? { fingerprint } : {}),
  }
}

/**
 * What becomes of a change. Only words that the gateway signed decide: the operation's receipt, and which key it says is
 * in force. A refusal alone ends nothing: an earlier attempt may have been applied so long ago that its result is gone.
 * @param inForce the fingerprint that the gateway named last, if it has
 */
export const decideChange = (
  { public_key }: KeyChange,
  said: { readonly outcome: Outcome | null; readonly inForce: string | undefined },
): 'wait' | 'adopt' | 'drop' => {
  const isInForce = public_key !== undefined && said.inForce === fingerprintOf(public_key)
  if (public_key !== undefined && (said.outcome?.ok || isInForce)) return 'adopt'
  return said.outcome?.ok === false && said.inForce !== undefined ? 'drop' : 'wait'
}

export const changesOf = ({ changes = [] }: Pick<Enrolled, 'changes'>): readonly KeyChange[] => changes

const spend = ({ spent_keys = [] }: Enrolled, names: readonly string[]): string[] => [
  ...new Set([...spent_keys, ...names]),
]

/** The identity with that change begun; one of its kind that is under way is the same change. */
export const withChange = (identity: Enrolled, change: Omit<KeyChange, 'public_key'>): Enrolled =>
  changesOf(identity).some(({ kind }) => kind === change.kind)
    ? identity
    : { ...identity, changes: [...changesOf(identity), change] }

/** The identity with that change's key made. */
export const withMadeKey = (identity: Enrolled, opId: string, public_key: string): Enrolled => ({
  ...identity,
  changes: changesOf(identity).map((change) => (change.op_id === opId ? { ...change, public_key } : change)),
})

/** The identity without that change; its key is spent. */
export const withoutChange = (identity: Enrolled, opId: string): Enrolled => ({
  ...identity,
  changes: changesOf(identity).filter(({ op_id }) => op_id !== opId),
  spent_keys: spend(
    identity,
    changesOf(identity)
      .filter(({ op_id }) => op_id === opId)
      .map(({ key_name }) => key_name),
  ),
})

/** Whether what was said is about the key that is kept as the one in force. */
const isAboutCurrent = ({ public_key, key_number }: Enrolled, { number, fingerprint }: KeyFacts): boolean =>
  fingerprint === undefined ? number !== undefined && number === key_number : fingerprint === fingerprintOf(public_key)

/** The identity with what was said of its key, or undefined where that is no news. */
export const withFacts = (identity: Enrolled, facts: KeyFacts): Enrolled | undefined => {
  if (!isAboutCurrent(identity, facts)) return undefined
  const { key_number, key_expires_at } = identity
  const number = facts.number ?? key_number
  const end = facts.expiresAt ?? key_expires_at
  if (number === key_number && end === key_expires_at) return undefined
  return {
    ...identity,
    ...(number === undefined ? {} : { key_number: number }),
    ...(end === undefined ? {} : { key_expires_at: end }),
    // Nothing but its owner's word brings the end of a key nearer.
    ...(end !== undefined && key_expires_at !== undefined && end < key_expires_at ? { rotation_due: true } : {}),
  }
}

/**
 * The identity under that change's key: the one before is spent, and so is what a reproof overtook, since no key that was
 * made to follow the lost one can be in force after it.
 * @param now Unix seconds
 */
export const withAdopted = (identity: Enrolled, change: KeyChange, facts: KeyFacts, now: number): Enrolled => {
  const { key_number: _number, key_expires_at: _end, rotation_due: _due, ...rest } = identity
  const overtaken = changesOf(identity).filter(({ op_id }) => change.kind === 'reprove' && op_id !== change.op_id)
  const gone = new Set([change, ...overtaken].map(({ op_id }) => op_id))
  return {
    ...rest,
    key_name: change.key_name,
    public_key: change.public_key ?? identity.public_key,
    key_since: now,
    ...(facts.number === undefined ? {} : { key_number: facts.number }),
    ...(facts.expiresAt === undefined ? {} : { key_expires_at: facts.expiresAt }),
    changes: changesOf(identity).filter(({ op_id }) => !gone.has(op_id)),
    spent_keys: spend(identity, [identity.key_name, ...overtaken.map(({ key_name }) => key_name)]),
  }
}
