import type { EnvelopeSigner } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import {
  type AnswerBody,
  CodedError,
  type DeviceLevel,
  deviceLevels,
  type KindName,
  kindsInState,
  type ReasonCode,
} from '@lenserfight/schemas'
import { measureClock } from '../checks/clock.ts'
import type { Counter } from '../counter.ts'
import { type KeyFacts, keyFactsOf } from '../keys/change.ts'
import type { Outbox } from '../outbox/types.ts'
import type { Runs } from '../runs/runs.ts'
import type { Enrolled } from '../settings.ts'
import type { Sync } from '../sync/sync.ts'
import type { Canary } from './canary.ts'
import { createGatewayClient, type GatewayClient, resultOf } from './client.ts'
import type { Heartbeat } from './heartbeat.ts'
import type { Link, LinkEvent } from './link.ts'
import type { GatewayTrust } from './trust.ts'

const statusDeadlineMs = 15_000
/** Between two looks, or two reconnects, that refusals cause. */
const calmMs = 1_000

/** How often what is looked at, in milliseconds. */
export interface SessionTiming {
  /** Between looks at one's own state while it is pending or not known, after a while of shorter ones. */
  readonly pendingPollMs: number
  /** The same otherwise. */
  readonly statusPollMs: number
}

/** What the gateway last said of this device. */
export interface Standing {
  readonly level: DeviceLevel
  readonly challengeVerified: boolean
  /** Whether the account's runners are paused. */
  readonly isPaused: boolean
  readonly key: KeyFacts
  /** The gateway's clock less ours, milliseconds. */
  readonly clockOffsetMs: number
}

/** No standing was learned: with which code, and by the clock of who said so. */
export interface NoStanding {
  readonly refused: ReasonCode
  readonly detail: string | undefined
  readonly clockOffsetMs: number | undefined
}

export interface DeviceSessionOptions {
  readonly link: Link
  readonly identity: Enrolled
  readonly signer: EnvelopeSigner
  readonly counter: Counter
  readonly trust: GatewayTrust
  readonly outbox: Outbox
  readonly heartbeat: Heartbeat
  readonly canary: Canary
  readonly runs: Pick<Runs, 'attach' | 'detach' | 'receive'>
  readonly sync: Pick<Sync, 'attach' | 'detach' | 'receive' | 'changed'>
  readonly timing: SessionTiming
  readonly logger: Logger
  readonly onStanding: (standing: Standing | NoStanding) => void
  readonly now?: () => number
}

/** The device's presence at the gateway, over one link: it learns its state and does what that state allows. */
export interface DeviceSession {
  /** Asks for the state at once: a refusal may mean that it changed. */
  readonly recheck: () => void
  /** Asks for the state and resolves when it is known or known not to be had. */
  readonly refresh: () => Promise<void>
  readonly end: () => void
}

const standingOf = (answer: AnswerBody, clockOffsetMs: number): Standing => {
  const result = resultOf(answer)
  const { trust_level: level, challenge_verified: verified, paused } = result
  if (!deviceLevels.includes(level as DeviceLevel)) throw new CodedError('internal_error', 'a status without a level')
  return {
    level: level as DeviceLevel,
    challengeVerified: verified === true,
    isPaused: paused === true,
    key: keyFactsOf(result),
    clockOffsetMs,
  }
}

/** Whether the key is past its end, by the gateway's clock. */
export const isKeyExpired = ({ key, clockOffsetMs }: Pick<Standing, 'key' | 'clockOffsetMs'>, now: number): boolean =>
  key.expiresAt !== undefined && key.expiresAt * 1000 <= now + clockOffsetMs

/** What a device may send through the ingress door: under a key that is past its end as much as an unhealthy one. */
const kindsFor = (standing: Standing, now: number): readonly KindName[] => {
  const kinds = kindsInState('in', standing.level)
  return isKeyExpired(standing, now) ? kinds.filter((kind) => kindsInState('in', 'unhealthy').includes(kind)) : kinds
}

/** Soon at first, since owners mostly approve right after enrolling; then less and less often. */
const unsettledPollMs = (looks: number, { pendingPollMs }: SessionTiming): number =>
  Math.min(pendingPollMs, 1_000 * 1.25 ** Math.min(looks, 30))

/** At most one call in a while. */
const calmly = (act: () => void): (() => void) => {
  let last = Number.NEGATIVE_INFINITY
  return () => {
    if (performance.now() - last < calmMs) return
    last = performance.now()
    act()
  }
}

export const openDeviceSession = (options: DeviceSessionOptions): DeviceSession => {
  const { link, identity, signer, counter, trust, timing, logger, onStanding, now = Date.now } = options
  const { outbox, heartbeat, canary, runs, sync } = options
  /** The kinds that this connection was admitted for, once they are known. */
  let admitted: readonly KindName[] | undefined
  let level: DeviceLevel | undefined
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined
  /** Since the device's state was last a working one. */
  let looks = 0
  let isOver = false

  const client: GatewayClient = createGatewayClient({
    ...{ link, signer, counter, trust, logger, lenser: identity.lenser },
    onReceipt: (items, service) => {
      heartbeat.receive(items, service)
      canary.receive(items, service)
      runs.receive(items, service)
      sync.receive(items, service)
      outbox.receive(items, service)
    },
    onChange: sync.changed,
    // Its key may be newer than the list on disk, and a status answer brings the list.
    onUntrusted: () => recheck(),
  })

  const pauseSending = (): void => {
    heartbeat.stop()
    canary.detach()
    runs.detach()
    sync.detach()
    outbox.detach()
    admitted = undefined
  }
  const startSending = (kinds: readonly KindName[], standing: Standing): void => {
    if (level === 'pending' && !standing.challengeVerified) answerChallenge(outbox, identity)
    outbox.attach({
      kinds: kinds.filter((kind) => kind !== 'heartbeat'),
      expect: counter.reserve,
      sign: (body) => client.sign((body as { kind: KindName }).kind, body),
      publish: client.publish,
    })
    if (kinds.includes('heartbeat')) heartbeat.start(client)
    if (kinds.includes('canary')) canary.attach(client)
    if (kinds.includes('run_renew')) runs.attach(client)
    sync.attach(client, kinds)
  }
  const apply = (standing: Standing): void => {
    level = standing.level
    onStanding(standing)
    const kinds = kindsFor(standing, now())
    if (admitted === undefined) {
      startSending(kinds, standing)
      // Only now: what a full disk broke off is begun again at the next look.
      admitted = kinds
    } else if (admitted.join() !== kinds.join()) {
      pauseSending()
      void link.reconnect()
    }
  }

  const ask = async (): Promise<void> => {
    const { answer, clock } = await measureClock(
      () => client.ask('status', { keys_number: trust.keysNumber() }, { deadlineMs: statusDeadlineMs }),
      now,
    )
    if (isOver || !link.isConnected()) return
    const clockOffsetMs = clock.offset_ms
    if (answer.ok) apply(standingOf(answer, clockOffsetMs))
    else onStanding({ refused: answer.code ?? 'internal_error', detail: answer.detail, clockOffsetMs })
  }
  const tellUnknown = ({ code, detail }: CodedError): void => {
    try {
      onStanding({ refused: code, detail, clockOffsetMs: undefined })
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      // What is to be done about it is done at a later look.
      logger.error({ event: 'standing_unkept', err: error }, 'what the device’s state means could not be kept')
    }
  }
  const lookNow = async (): Promise<void> => {
    clearTimeout(timer)
    try {
      if (link.isConnected()) await ask()
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      logger.warn({ event: 'status_failed', code: error.code }, 'the device’s state is not known')
      if (!isOver) tellUnknown(error)
    }
    const isSettled = admitted !== undefined && level !== 'pending'
    looks = isSettled ? 0 : looks + 1
    if (!isOver) timer = setTimeout(look, isSettled ? timing.statusPollMs : unsettledPollMs(looks, timing))
  }
  const look = async (): Promise<void> => {
    if (isOver) return
    looking ??= lookNow().finally(() => {
      looking = undefined
    })
    await looking
  }

  const recheck = calmly(() => void look())
  const reconnect = calmly(() => {
    pauseSending()
    void link.reconnect()
  })
  const onEvent = (event: LinkEvent): void => {
    if (isOver) return
    if (event === 'connected') void look()
    // Admitted in another state than the one that we then learned: another connection gets the permissions of now.
    else if (event === 'forbidden') reconnect()
    else pauseSending()
  }

  link.onEvent(onEvent)
  void look()
  return {
    recheck,
    refresh: look,
    end: () => {
      isOver = true
      clearTimeout(timer)
      pauseSending()
    },
  }
}

/** Puts the answer to the registration's challenge in the outbox, once (DA-1): the identity names the operation. */
const answerChallenge = (outbox: Outbox, { device_id, challenge, challenge_op }: Enrolled): void => {
  outbox.enqueue({ kid: device_id, kind: 'challenge', opId: challenge_op, body: { device_id, challenge } })
}
