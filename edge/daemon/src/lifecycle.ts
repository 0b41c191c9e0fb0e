import { existsSync } from 'node:fs'
import { newUuidV7 } from '@lenserfight/envelope'
import { isReasonCode, type lifecycleEvents, type ReasonCode } from '@lenserfight/schemas'
import type { EdgePaths } from './config.ts'
import { keepForLater } from './outbox/keep-for-later.ts'
import type { Outbox } from './outbox/types.ts'
import { createSettings, enrolledOf } from './settings.ts'
import { openStore, type Store } from './store.ts'
import { daemonVersion } from './version.ts'

/** The same refusal again within this is the same event. */
const sameRefusalMs = 3600 * 1000
/** A daemon that starts and dies again and again, with nobody to tell, fills the outbox with no more than so many events. */
const mostOpen = 50

type LifecycleEvent = (typeof lifecycleEvents)[number]

const bodyOf = (event: LifecycleEvent, now: number, code?: ReasonCode) => ({
  ...{ event, daemon_version: daemonVersion, at: now },
  ...(code === undefined ? {} : { code }),
})

const hasRoom = (store: Store): boolean => {
  const open = store.get<{ n: number }>(
    `SELECT count(*) AS n FROM operations WHERE kind = 'lifecycle' AND state IN ('waiting', 'sent')`,
  )
  return (open?.n ?? 0) < mostOpen
}

const isRepeated = (store: Store, code: ReasonCode, now: number): boolean =>
  store
    .all<{ body: string }>(
      `SELECT body FROM operations WHERE kind = 'lifecycle' AND created_at > ? AND created_at <= ?`,
      ...[now - sameRefusalMs, now],
    )
    .some(({ body }) => (JSON.parse(body) as { code?: string }).code === code)

/** With what this machine's last daemon was refused its start; undefined where it did start, or where that is not known. */
export const lastRefusal = (store: Store): ReasonCode | undefined => {
  const row = store.get<{ code: unknown }>(
    `SELECT json_extract(body, '$.code') AS code FROM operations WHERE kind = 'lifecycle' ORDER BY rowid DESC LIMIT 1`,
  )
  return isReasonCode(row?.code) ? row.code : undefined
}

/** What a daemon reports of its own life (R7). Events are operations, so each is told until it is on record. */
export interface Lifecycle {
  /** The daemon is up. */
  readonly started: () => void
  /** It was not to start: what it is refused with takes the place of its start, where that was not told yet. */
  readonly refused: (code: ReasonCode) => void
  /** It stops orderly; resolves when that is on record, or when time is up: then the next daemon tells it. */
  readonly stopped: (timeoutMs: number) => Promise<void>
}

export interface LifecycleOptions {
  readonly store: Store
  readonly outbox: Pick<Outbox, 'enqueue' | 'withdraw' | 'wait'>
  readonly deviceId: string
  /** Milliseconds since 1970. */
  readonly now?: (() => number) | undefined
}

export const createLifecycle = ({ store, outbox, deviceId, now = Date.now }: LifecycleOptions): Lifecycle => {
  let start: string | undefined
  const tell = (event: LifecycleEvent, code?: ReasonCode): string | undefined => {
    if (!hasRoom(store)) return undefined
    const opId = newUuidV7(now())
    outbox.enqueue({ kid: deviceId, kind: 'lifecycle', opId, body: bodyOf(event, now(), code) })
    return opId
  }
  return {
    started: () => {
      start = tell('start')
    },
    refused: (code) => {
      if (start !== undefined) outbox.withdraw(start)
      if (!isRepeated(store, code, now())) tell('refusal', code)
    },
    stopped: async (timeoutMs) => {
      const opId = tell('stop')
      if (opId !== undefined) await outbox.wait(opId, timeoutMs)
    },
  }
}

/**
 * Keeps the event that a daemon was refused its start, for the next one to tell; nothing where this machine has no
 * identity, or no state that can be written: the refusal itself is told to whoever started it.
 */
export const keepRefusal = (paths: EdgePaths, code: ReasonCode, now: number = Date.now()): void => {
  if (!existsSync(paths.stateFile)) return
  let store: Store | undefined
  try {
    store = openStore(paths.stateFile)
    const identity = enrolledOf(createSettings(store).get('identity'))
    if (identity === undefined || !hasRoom(store) || isRepeated(store, code, now)) return
    keepForLater(store, identity, { kind: 'lifecycle', body: bodyOf('refusal', now, code) })
  } catch {
    // What kept the daemon from starting may keep this from being written too.
  } finally {
    store?.close()
  }
}
