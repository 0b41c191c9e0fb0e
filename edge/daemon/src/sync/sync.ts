import type { Logger } from '@lenserfight/runtime'
import {
  type ChangeBody,
  CodedError,
  type KindName,
  limits,
  type ReasonCode,
  type ReceiptItem,
} from '@lenserfight/schemas'
import { entryOf } from '@lenserfight/sync'
import type { GatewayClient } from '../gateway/client.ts'
import type { Timing } from '../outbox/decide.ts'
import type { Outbox } from '../outbox/types.ts'
import type { Store } from '../store.ts'
import { createLeader } from './leader.ts'
import { createObjects, type Objects } from './objects.ts'
import { createPull, type Pulled } from './pull.ts'
import { coordinatedClasses, createPush, type Tally } from './push.ts'
import { createSyncTables } from './tables.ts'
import { renewed } from './transitions.ts'

/** This machine's objects, kept in step with the gateway's. */
export interface Sync {
  readonly objects: Objects
  /**
   * Takes over what a former daemon left: what had ended, and edits made in the name of a device that is no more. Another
   * account's objects it forgets.
   */
  readonly resume: () => void
  /** There is a connection over which the device may send these kinds. */
  readonly attach: (client: Pick<GatewayClient, 'ask' | 'sign' | 'publish'>, kinds: readonly KindName[]) => void
  readonly detach: () => void
  /** Takes the items of a receipt that this service signed. */
  readonly receive: (items: readonly ReceiptItem[], service: string) => void
  /** The gateway says that there is something to pull. */
  readonly changed: (notice: Pick<ChangeBody, 'epoch' | 'seq'>) => void
  /** An operation of the outbox has ended. */
  readonly ended: (kind: KindName) => void
  readonly pull: (timeoutMs: number, signal?: AbortSignal) => Promise<Pulled>
  readonly push: (timeoutMs: number, signal?: AbortSignal) => Promise<Tally & { readonly pending: number }>
  /** What would be pushed, oldest first, without values. */
  readonly outline: () => readonly Readonly<Record<string, unknown>>[]
  /** Edits that have no result yet. */
  readonly pending: () => number
  /** Why pushes or pulls fail, while they do. */
  readonly failing: () => ReasonCode | undefined
  readonly status: (obstacle: ReasonCode | undefined) => Readonly<Record<string, unknown>>
  readonly close: () => void
}

export interface SyncOptions {
  readonly store: Store
  readonly outbox: Outbox
  readonly logger: Logger
  readonly deviceId: () => string
  /** Whose this machine's objects are: the gateway and the Lenser. */
  readonly account: string
  /** How long edits are gathered before they are flushed, and how often the feed is read, milliseconds. */
  readonly flushMs: number
  readonly pullMs: number
  readonly timing: Timing
  readonly onRefused: (code: ReasonCode) => void
  readonly onUnable: (code: ReasonCode) => void
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

export const createSync = (options: SyncOptions): Sync => {
  const { store, outbox, logger, deviceId, account, flushMs, pullMs, timing, onRefused, onUnable } = options
  const { now = Date.now } = options
  const tables = createSyncTables(store)
  let pullCode: ReasonCode | null = null
  /** Told for people alone: what goes on does not end because it cannot be kept. */
  const keepCode = (code: ReasonCode | null): void => {
    try {
      if ((tables.fact('last_code') ?? null) !== code) tables.setFact('last_code', code)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      onUnable(error.code)
    }
  }

  const leader = createLeader({
    isWanted: () => tables.isCoordinatedPending(coordinatedClasses),
    onHeld: () => push.look(),
    logger,
  })
  const push = createPush({
    ...{ tables, outbox, leader, deviceId, flushMs, timing, logger, onUnable, now },
    onCode: keepCode,
    onPullNeeded: () => pull.restart(),
  })
  const diverged = (): string[] =>
    tables
      .cursors()
      .filter(({ hasDiverged }) => hasDiverged)
      .map((cursor) => cursor.class)
  const report = () => {
    const code = tables.fact('last_code') ?? undefined
    return {
      pending: tables.pending().count,
      set_aside: tables.countSetAside(),
      ...(code === undefined ? {} : { last_code: code }),
      diverged: diverged(),
    }
  }
  const pull = createPull({
    ...{ tables, deviceId, report, everyMs: pullMs, timing, logger, onRefused, onUnable, now },
    onCode: (code) => {
      if (code !== null || pullCode !== null) keepCode(code)
      pullCode = code
    },
    onPulled: () => push.pulled(),
  })
  const objects = createObjects({ tables, deviceId, now, onEdited: () => push.edited() })

  const failing = (): ReasonCode | undefined => {
    if (pull.isFailing()) return pullCode ?? 'gateway_unreachable'
    return push.isFailing() ? (tables.fact('last_code') ?? 'answer_timeout') : undefined
  }
  /**
   * Edits in another device's name are nobody's to send: they are written again in this one's. Those of another account are never
   * shown or sent to this one.
   */
  const adopt = (): void =>
    tables.transaction(() => {
      const device = deviceId()
      const former = tables.fact('device_id')
      if (former !== undefined && tables.fact('account') !== account) {
        const { count } = tables.pending()
        logger.warn(
          { event: 'objects_forgotten', pending: count },
          'what is here was another account’s and is forgotten',
        )
        tables.forgetAll()
      }
      tables.setFact('account', account)
      if (former === device) return
      tables.setFact('device_id', device)
      if (former === undefined) return
      for (const name of tables.editedObjects()) {
        const before = tables.find(name)
        // What was set aside is written anew when a person edits it.
        if (before !== undefined && before.record.setAside === null)
          tables.save(before, renewed(before, { deviceId: device, now: now() }))
      }
    })

  return {
    objects,
    resume: () => {
      push.look()
      adopt()
    },
    attach: (client, kinds) => {
      if (kinds.includes('sync_pull')) pull.attach(client)
      if (!kinds.includes('sync_push')) return
      leader.attach(client)
      push.attach()
    },
    detach: () => {
      push.detach()
      leader.detach()
      pull.detach()
    },
    receive: pull.receive,
    changed: () => pull.notice(),
    ended: (kind) => {
      if (kind === 'sync_push') push.look()
    },
    pull: pull.pullNow,
    push: async (timeoutMs, signal) => {
      const tally = await push.flush(timeoutMs, signal)
      return { ...tally, pending: tables.pending().count }
    },
    outline: () =>
      tables.sendable(now(), [], limits.entriesPerPush * 10).map(({ delta, bytes }) => ({
        ...{ class: delta.class, object: delta.object, paths: Object.keys(entryOf(delta).paths), bytes },
      })),
    pending: () => tables.pending().count,
    failing,
    status: (obstacle) => {
      const { count, oldestAt } = tables.pending()
      const code = obstacle ?? failing() ?? null
      return {
        ...{ gateway_status: code === null ? 'connected' : 'degraded', code, epoch: tables.fact('epoch') ?? null },
        ...{ pending: count, oldest_at: oldestAt, in_flight: tables.countUnderWay(), set_aside: tables.setAside() },
        conflicts: tables.countConflicts(),
        beside: tables.countBeside(),
        cursors: Object.fromEntries(tables.cursors().map(({ class: name, after }) => [name, after])),
        ...{ diverged: diverged(), leader: leader.status() },
        last_push_at: tables.fact('last_push_at') ?? null,
        last_pull_at: tables.fact('last_pull_at') ?? null,
        last_code: tables.fact('last_code') ?? null,
      }
    },
    close: () => {
      push.close()
      pull.close()
      leader.detach()
    },
  }
}
