import { canonicalize, newUuidV7 } from '@lenserfight/envelope'
import type { KindName } from '@lenserfight/schemas'
import { checkOperation } from '../check-operation.ts'
import type { Enrolled } from '../settings.ts'
import type { Store } from '../store.ts'
import { createOperations } from './operations.ts'

/**
 * Puts an operation in the outbox of a daemon that is not running, which sends it when it is.
 * @returns its op_id
 * @throws CodedError `malformed_body`, `state_unwritable`
 */
export const keepForLater = (
  store: Store,
  identity: Enrolled,
  { kind, body }: { kind: KindName; body: Readonly<Record<string, unknown>> },
): string => {
  const opId = newUuidV7()
  const whole = { ...body, kind, op_id: opId }
  checkOperation(whole, identity.gateway_id)
  createOperations(store).insert({ opId, kid: identity.device_id, kind, body: canonicalize(whole) }, Date.now())
  return opId
}
