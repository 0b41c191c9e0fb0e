import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError, type KindName, type ReasonCode } from '@lenserfight/schemas'
import type { Canary } from './gateway/canary.ts'
import type { Heartbeat } from './gateway/heartbeat.ts'
import { createIdentityMethods } from './keys/methods.ts'
import type { Rotation } from './keys/rotation.ts'
import type { Operation } from './outbox/operations.ts'
import { asReport } from './outbox/report.ts'
import type { Outbox } from './outbox/types.ts'
import { type Presence, refusalIn } from './presence.ts'
import type { Awaited } from './runs/awaited.ts'
import type { RunBook } from './runs/book.ts'
import { createRunMethods } from './runs/methods.ts'
import type { Runs } from './runs/runs.ts'
import type { Enrolled } from './settings.ts'
import type { Methods } from './socket/server.ts'
import { createSyncMethods } from './sync/methods.ts'
import type { Sync } from './sync/sync.ts'

const refreshMs = 3_000

export interface MethodsOptions {
  readonly identity: () => Enrolled
  readonly rotation: Rotation
  readonly outbox: Outbox
  readonly presence: Presence
  readonly canary: Canary
  readonly heartbeat: Pick<Heartbeat, 'beatFor'>
  readonly runs: Runs
  readonly book: RunBook
  readonly awaited: Awaited
  readonly sync: Sync
  readonly enqueue: (kind: KindName, body: Readonly<Record<string, unknown>>) => Operation
  readonly status: () => Readonly<Record<string, unknown>>
  /** Asks the gateway for the device's state anew. */
  readonly refresh: () => Promise<void>
}

/** What the socket's methods do. */
export const createMethods = (options: MethodsOptions): Methods => {
  const { identity, rotation, outbox, presence, canary, heartbeat, runs, book, status, refresh } = options
  const { awaited, enqueue, sync } = options

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

  return {
    ...createIdentityMethods({ identity, rotation, outbox, checkState }),
    ...createRunMethods({ outbox, presence, heartbeat, runs, book, awaited, enqueue, refusal, checkState }),
    ...createSyncMethods({ sync, presence, checkState }),
    status: async () => status(),
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
