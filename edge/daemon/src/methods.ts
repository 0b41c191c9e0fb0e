import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError, type KindName, type ReasonCode } from '@lenserfight/schemas'
import type { Canary } from './gateway/canary.ts'
import { createIdentityMethods } from './keys/methods.ts'
import type { Rotation } from './keys/rotation.ts'
import type { Operation } from './outbox/operations.ts'
import type { Outbox } from './outbox/types.ts'
import { type Presence, refusalIn } from './presence.ts'
import type { Enrolled } from './settings.ts'
import type { Methods } from './socket/server.ts'

const refreshMs = 3_000
/** Between two looks at whether the device's state still allows what somebody waits for. */
const lookMs = 500

export interface MethodsOptions {
  readonly identity: () => Enrolled
  readonly rotation: Rotation
  readonly outbox: Outbox
  readonly presence: Presence
  readonly canary: Canary
  readonly status: () => Readonly<Record<string, unknown>>
  /** Asks the gateway for the device's state anew. */
  readonly refresh: () => Promise<void>
}

/** What a caller learns of an operation. */
const asReport = (operation: Operation) => ({
  op_id: operation.opId,
  kind: operation.kind,
  state: operation.state,
  attempts: operation.attempts,
  last_code: operation.lastCode,
  outcome: operation.outcome,
})

/** What the socket's methods do. */
export const createMethods = (options: MethodsOptions): Methods => {
  const { identity, rotation, outbox, presence, canary, status, refresh } = options
  const enqueue = (kind: KindName, body: Readonly<Record<string, unknown>>): Operation =>
    outbox.enqueue({ kid: identity().device_id, kind, body })

  const refusal = (kind: KindName): ReasonCode | undefined => {
    const level = presence.level()
    return level && refusalIn(level, kind)
  }
  /** Refuses at once what the device's state refuses; one that its owner approved a moment ago is asked about first. */
  const checkState = async (kind: KindName): Promise<void> => {
    if (refusal(kind) === undefined) return
    await Promise.race([refresh(), sleep(refreshMs, undefined, { ref: false })])
    const code = refusal(kind)
    if (code !== undefined) throw new CodedError(code)
  }
  /** Waits for the outcome for as long as the state does not refuse the kind: what was cut meanwhile gets no answer any more. */
  const waitWhileAllowed = async (opId: string, timeoutMs: number, signal: AbortSignal | undefined) => {
    for (const end = performance.now() + timeoutMs; ; ) {
      const left = end - performance.now()
      const operation = (await outbox.wait(opId, Math.min(lookMs, Math.max(0, left)), signal)) as Operation
      if (operation.outcome !== null || left <= lookMs || signal?.aborted || refusal(operation.kind)) return operation
    }
  }
  const whyUnanswered = (operation: Operation): ReasonCode =>
    presence.obstacle() ??
    (operation.lastCode as ReasonCode | null) ??
    (presence.connection() === 'connected' ? 'answer_timeout' : 'gateway_unreachable')

  return {
    ...createIdentityMethods({ identity, rotation, outbox, checkState }),
    status: async () => status(),
    'run.start': async ({ run, timeout_ms }, signal) => {
      await checkState('run_start')
      const { opId } = enqueue('run_start', run)
      const operation = await waitWhileAllowed(opId, timeout_ms, signal)
      const { outcome } = operation
      if (outcome?.ok) return outcome.result ?? {}
      if (outcome !== null) throw new CodedError(outcome.code ?? 'internal_error', outcome.detail)
      // Nobody runs anything on a permit that comes too late: one that was never asked for need not be.
      outbox.withdraw(opId)
      throw new CodedError(whyUnanswered(operation))
    },
    'run.attest': async ({ attestation, timeout_ms }, signal) => {
      const { opId } = enqueue('attestation', attestation)
      return asReport((await outbox.wait(opId, timeout_ms, signal)) as Operation)
    },
    canary: async ({ timeout_ms }, signal) => {
      await checkState('canary')
      return canary.send(timeout_ms, signal)
    },
    'operation.wait': async ({ op_id, timeout_ms }, signal) => {
      const operation = await outbox.wait(op_id, timeout_ms, signal)
      if (operation === undefined) throw new CodedError('unknown_operation', op_id)
      return asReport(operation)
    },
  }
}
