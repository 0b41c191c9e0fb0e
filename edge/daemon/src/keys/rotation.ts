import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '@lenserfight/runtime'
import { CodedError, limits } from '@lenserfight/schemas'
import type { Outcome } from '../outbox/decide.ts'
import type { Operation } from '../outbox/operations.ts'
import type { Outbox } from '../outbox/types.ts'
import type { Enrolled, KeyChange } from '../settings.ts'
import { changesOf, decideChange, type KeyFacts, keyFactsOf } from './change.ts'
import type { KeyChanges, ReadyChange } from './key-changes.ts'

const dayMs = 24 * 3600 * 1000
/** Between rotations that the daemon begins by itself, after one that was refused for good. */
const afterFailureMs = 3600 * 1000
/** How long the gateway may take to say which key is in force, before whoever waits for that is told as it stands. */
const settleMs = 4_000

export interface RotationOptions {
  readonly changes: KeyChanges
  readonly outbox: Pick<Outbox, 'enqueue' | 'find'>
  readonly logger: Logger
  /** Whether this device's state, as far as it is known, lets it rotate. */
  readonly mayRotate: () => boolean
  /** The keys that are kept changed. */
  readonly onKeys: () => Promise<void>
  /** Connects under that key, which may be in force: the gateway says whether it is. */
  readonly tryKey: (publicKey: string) => Promise<void>
  /** Asks the gateway which key is in force. */
  readonly askInForce: () => void
  /** Milliseconds since 1970. */
  readonly now?: (() => number) | undefined
  /** In [0, 1). */
  readonly random?: () => number
}

/** The daemon's half of every change of keys. What it is told comes from messages that the gateway signed. */
export interface Rotation {
  /** Goes on with what a daemon before this one left. */
  readonly resume: () => Promise<void>
  /** Begins a rotation, or goes on with the one under way. */
  readonly rotate: () => Promise<Operation>
  /** Begins a reproof, or goes on with it: what its owner is to ask the gateway for. */
  readonly prepare: () => Promise<ReadyChange>
  /**
   * Takes what somebody says that a reproof ended in, and resolves when it has ended or is not known to. Everybody who
   * reaches the socket may say so, and it ends nothing: which key is in force is for the gateway to say.
   */
  readonly settle: (opId: string, outcome: Outcome) => Promise<void>
  /** Takes what the gateway says of the key in force; rotates where its end is near or was brought forward. */
  readonly learn: (facts: KeyFacts) => void
  /** The gateway refused the key for its age. */
  readonly expired: () => void
  /** Takes note that an operation of the outbox ended. */
  readonly ended: (opId: string) => void
  /** Resolves when nothing is being done. */
  readonly idle: () => Promise<void>
}

export const createRotation = (options: RotationOptions): Rotation => {
  const { changes, outbox, logger, mayRotate, onKeys, tryKey, askInForce } = options
  const { now = Date.now, random = Math.random } = options
  // The first day of the time in which people are warned already, so that a fleet does not rotate at one moment.
  const leadMs = limits.keyWarnDays * dayMs - random() * dayMs
  let inForce: string | undefined
  let failedAt = Number.NEGATIVE_INFINITY
  let working: Promise<void> = Promise.resolve()
  /** Reproofs that are said to have been refused. */
  const refused = new Map<string, Outcome>()
  /** Who waits for the end of a reproof. */
  const waiting = new Map<string, () => void>()

  /** One step at a time: a key is neither made twice nor adopted while it is being dropped. */
  const inTurn = <T>(step: () => Promise<T>): Promise<T> => {
    const done = working.then(step)
    working = done.then(
      () => {},
      () => {},
    )
    return done
  }
  const byItself = (step: () => Promise<unknown>): void => {
    void inTurn(step).catch((error: unknown) => {
      if (!(error instanceof CodedError)) throw error
      logger.error({ event: 'rotation_failed', code: error.code }, 'a change of keys could not go on')
    })
  }

  const start = async (): Promise<Operation> => {
    const { op_id, body } = await changes.begin('rotate')
    logger.info({ event: 'rotation_begun', op_id }, 'a new key is to take the place of this device’s')
    return outbox.enqueue({ kid: changes.identity().device_id, kind: 'rotate', opId: op_id, body })
  }
  const sweep = (): Promise<void> =>
    changes.sweep().catch((error: unknown) => {
      if (!(error instanceof CodedError)) throw error
      logger.warn({ event: 'key_kept', code: error.code }, 'a key of no more use could not be removed yet')
    })
  const conclude = async (change: KeyChange, outcome: Outcome | null): Promise<void> => {
    const { kind, op_id } = change
    const decision = decideChange(change, { outcome, inForce })
    if (decision === 'wait') {
      if (outcome !== null) askInForce()
      return
    }
    if (decision === 'adopt') {
      changes.adopt(op_id, keyFactsOf(outcome?.result))
      logger.info({ event: 'key_adopted', kind, op_id }, 'the new key is in force')
    } else {
      failedAt = now()
      changes.drop(op_id)
      logger.warn(
        { event: 'key_dropped', kind, op_id, code: outcome?.code },
        'the gateway refused the new key for good',
      )
    }
    await onKeys()
    await sweep()
    refused.delete(op_id)
    waiting.get(op_id)?.()
  }
  const concludeAll = async (): Promise<void> => {
    for (const change of changesOf(changes.identity())) {
      await conclude(change, outbox.find(change.op_id)?.outcome ?? refused.get(change.op_id) ?? null)
    }
  }
  const isDue = ({ key_expires_at: end, rotation_due }: Enrolled): boolean =>
    rotation_due === true || (end !== undefined && end * 1000 - leadMs <= now())
  const startIf = async (isNeeded: (identity: Enrolled) => boolean): Promise<void> => {
    const identity = changes.identity()
    // A reproof that its owner never asked for, or was never told the end of, stays open and holds up nothing.
    const begun = changesOf(identity).find(({ kind }) => kind === 'rotate')
    if (begun !== undefined && outbox.find(begun.op_id) !== undefined) return
    if (!mayRotate() || now() - failedAt < afterFailureMs) return
    // One that was broken off before its request was kept (a full disk, a locked keychain) goes on.
    if (begun !== undefined || isNeeded(identity)) await start()
  }

  return {
    resume: () =>
      inTurn(async () => {
        await sweep()
        await concludeAll()
        for (const { kind, op_id } of changesOf(changes.identity())) {
          if (kind === 'rotate' && outbox.find(op_id) === undefined) await start()
        }
      }),
    rotate: () => inTurn(start),
    prepare: () => inTurn(() => changes.begin('reprove')),
    settle: async (opId, outcome) => {
      const { promise: ended, resolve } = Promise.withResolvers<void>()
      await inTurn(async () => {
        const change = changesOf(changes.identity()).find(({ op_id, kind }) => op_id === opId && kind === 'reprove')
        if (change === undefined) return resolve()
        waiting.set(opId, resolve)
        if (outcome.ok) return change.public_key === undefined ? undefined : tryKey(change.public_key)
        refused.set(opId, outcome)
        // What was said before may be older than the change.
        inForce = undefined
        askInForce()
      })
      await Promise.race([ended, sleep(settleMs)])
      waiting.delete(opId)
    },
    learn: (facts) => {
      inForce = facts.fingerprint ?? inForce
      byItself(async () => {
        changes.learn(facts)
        await concludeAll()
        // They may be those of a key that was taken up only now.
        changes.learn(facts)
        await startIf(isDue)
      })
    },
    expired: () => byItself(() => startIf(() => true)),
    ended: (opId) =>
      byItself(async () => {
        const change = changesOf(changes.identity()).find(({ op_id }) => op_id === opId)
        const outcome = outbox.find(opId)?.outcome
        if (change !== undefined && outcome) await conclude(change, outcome)
      }),
    idle: () => working,
  }
}
