import { setTimeout as sleep } from 'node:timers/promises'
import { jitteredDelay, type ReconnectTiming } from '@lenserfight/bus/edge'
import type { KeyPair } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import type { KeyRing } from '../keys/key-ring.ts'
import type { Presence } from '../presence.ts'
import type { DeviceSession } from './device-session.ts'
import type { Link } from './link.ts'

/** What a hostile broker may take to let go of a connection. */
const closeMs = 2_000

export interface ConnectorOptions {
  readonly ring: KeyRing
  /** Connects once with that key. */
  readonly connect: (keys: KeyPair) => Promise<Link>
  readonly openSession: (link: Link) => DeviceSession
  readonly presence: Presence
  readonly timing: ReconnectTiming
  readonly logger: Logger
}

/**
 * Keeps this device connected, under whichever of its keys the gateway takes: while a change of keys is open, a refusal
 * may mean that the gateway has changed already, or not yet, so the keys take turns.
 */
export interface Connector {
  readonly session: () => DeviceSession | undefined
  /** The keys may have changed: connects anew if the one in use did. */
  readonly rekey: () => void
  /** The gateway said, or a broker claims, that it does not know the key in use. */
  readonly refused: () => Promise<void>
  /** The gateway knows the key in use. */
  readonly known: () => void
  readonly close: () => Promise<void>
}

export const keepConnected = (options: ConnectorOptions): Connector => {
  const { ring, connect, openSession, presence, timing, logger } = options
  const stopping = new AbortController()
  let session: DeviceSession | undefined
  let failures = 0
  let used = ring.inUse()
  let leave = (): void => {}

  /** Another key where there is one; what another program kept meanwhile counts. */
  const refused = async (): Promise<void> => {
    if (used !== ring.inUse()) return
    try {
      await ring.reload()
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      logger.error({ event: 'keys_unreadable', code: error.code }, 'the keys could not be read again')
    }
    if (used === ring.inUse() && !ring.tryAnother()) return
    logger.warn({ event: 'key_tried' }, 'the key in use was refused; another one of this device is tried')
    leave()
  }
  const pause = async (): Promise<void> => {
    await sleep(jitteredDelay(timing, failures), undefined, { signal: stopping.signal }).catch(() => {})
    failures += 1
  }
  const tryOnce = async (): Promise<Link | undefined> => {
    used = ring.inUse()
    try {
      return await connect(used)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      presence.onConnectFailed(error)
      logger.warn({ event: 'connect_failed', code: error.code }, 'the gateway was not reached')
      if (error.code === 'connection_refused') await refused()
      return undefined
    }
  }
  /** Stays with a connection, which comes back by itself, until it is to be left. */
  const stay = async (link: Link): Promise<void> => {
    const { promise: left, resolve } = Promise.withResolvers<void>()
    let isLeft = false
    leave = () => {
      isLeft = true
      resolve()
    }
    stopping.signal.addEventListener('abort', leave, { once: true })
    presence.onLink('connected')
    link.onEvent((event) => {
      // A connection that was lost as it was left may be told only later that its key is not taken: no news of this one.
      if (isLeft) return
      presence.onLink(event)
      if (event === 'refused') void refused()
    })
    if (stopping.signal.aborted) leave()
    session = openSession(link)
    await left
    stopping.signal.removeEventListener('abort', leave)
    leave = () => {}
    session.end()
    session = undefined
    await Promise.race([link.close(), sleep(closeMs, undefined, { ref: false })])
  }
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const link = await tryOnce()
      if (link !== undefined) await stay(link)
      if (link === undefined || failures > 0) await pause()
    }
  }
  const running = run()

  return {
    session: () => session,
    rekey: () => {
      if (used === ring.inUse()) return
      failures = 0
      leave()
    },
    refused: async () => {
      failures = Math.max(1, failures)
      await refused()
    },
    known: () => {
      failures = 0
    },
    close: async () => {
      stopping.abort()
      await running
    },
  }
}
