import type { Operation } from './operations.ts'

/** What a caller on the socket learns of an operation. */
export const asReport = (operation: Operation) => ({
  op_id: operation.opId,
  kind: operation.kind,
  state: operation.state,
  attempts: operation.attempts,
  last_code: operation.lastCode,
  unwanted: operation.isUnwanted,
  outcome: operation.outcome,
})
