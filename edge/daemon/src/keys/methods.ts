import { CodedError } from '@lenserfight/schemas'
import { describeKey } from '../describe.ts'
import type { Outcome } from '../outbox/decide.ts'
import type { Outbox } from '../outbox/types.ts'
import type { Enrolled } from '../settings.ts'
import type { Methods } from '../socket/server.ts'
import type { Rotation } from './rotation.ts'

export interface IdentityMethodsOptions {
  readonly identity: () => Enrolled
  readonly rotation: Rotation
  readonly outbox: Pick<Outbox, 'wait'>
  /** Refuses what the device's state refuses. */
  readonly checkState: (kind: 'rotate') => Promise<void>
}

/** What the socket's methods about this device's key do. */
export const createIdentityMethods = (
  options: IdentityMethodsOptions,
): Pick<Methods, 'identity.rotate' | 'identity.prepare' | 'identity.settle'> => {
  const { identity, rotation, outbox, checkState } = options
  const report = () => ({
    device_id: identity().device_id,
    public_key: identity().public_key,
    key: describeKey(identity()),
  })
  return {
    'identity.rotate': async ({ timeout_ms }, signal) => {
      await checkState('rotate')
      const { opId } = await rotation.rotate()
      const operation = await outbox.wait(opId, timeout_ms, signal)
      await rotation.idle()
      const outcome = operation?.outcome ?? null
      if (outcome?.ok === false) throw new CodedError(outcome.code ?? 'internal_error', outcome.detail)
      return { ...report(), op_id: opId, done: outcome !== null, last_code: operation?.lastCode ?? null }
    },
    'identity.prepare': async () => {
      return { ...(await rotation.prepare()) }
    },
    'identity.settle': async ({ op_id, outcome }) => {
      await rotation.settle(op_id, outcome as Outcome)
      return report()
    },
  }
}
