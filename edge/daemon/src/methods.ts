import { CodedError, type KindName, type ReasonCode } from '@lenserfight/schemas'
import type { Operation } from './outbox/operations.ts'
import type { Outbox } from './outbox/outbox.ts'
import { type Presence, refusalIn } from './presence.ts'
import type { Enrolled } from './settings.ts'
import type { Methods } from './socket/server.ts'

export interface MethodsOptions {
  readonly identity: Enrolled
  readonly outbox: Outbox
  readonly presence: Presence
  readonly status: () => Readonly<Record<string, unknown>>
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
export const createMethods = ({ identity, outbox, presence, status }: MethodsOptions): Methods => {
  const enqueue = (kind: KindName, body: Readonly<Record<string, unknown>>): Operation =>
    outbox.enqueue({ kid: identity.device_id, kind, body })

  const refuseWhile = (kind: KindName): void => {
    const level = presence.level()
    const refusal = level && refusalIn(level, kind)
    if (refusal !== undefined) throw new CodedError(refusal)
  }
  const whyUnanswered = (operation: Operation): ReasonCode =>
    presence.obstacle() ??
    (operation.lastCode as ReasonCode | null) ??
    (presence.connection() === 'connected' ? 'answer_timeout' : 'gateway_unreachable')

  return {
    status: async () => status(),
    'run.start': async ({ run, timeout_ms }, signal) => {
      refuseWhile('run_start')
      const { opId } = enqueue('run_start', run)
      const operation = (await outbox.wait(opId, timeout_ms, signal)) as Operation
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
    'operation.wait': async ({ op_id, timeout_ms }, signal) => {
      const operation = await outbox.wait(op_id, timeout_ms, signal)
      if (operation === undefined) throw new CodedError('usage', 'there is no operation of that id here')
      return asReport(operation)
    },
  }
}
