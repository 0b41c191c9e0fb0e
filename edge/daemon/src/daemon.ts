import { setTimeout as sleep } from 'node:timers/promises'
import { edgeReconnect } from '@lenserfight/bus'
import { createSigner } from '@lenserfight/envelope'
import type { Logger } from '@lenserfight/runtime'
import { CodedError, ctlSubjects } from '@lenserfight/schemas'
import { type Boot, boot } from './boot.ts'
import { checkOperation } from './check-operation.ts'
import { isClockOff } from './checks/clock.ts'
import type { EdgeConfig } from './config.ts'
import { createCounter } from './counter.ts'
import { createCanary } from './gateway/canary.ts'
import { type DeviceSession, openDeviceSession } from './gateway/device-session.ts'
import { createHeartbeat } from './gateway/heartbeat.ts'
import { connectGateway, type Link } from './gateway/link.ts'
import { createTrust, type GatewayTrust } from './gateway/trust.ts'
import { createPages } from './http/pages.ts'
import { serveHttp } from './http/server.ts'
import { createMethods } from './methods.ts'
import { createOutbox } from './outbox/outbox.ts'
import { createPresence, type Presence } from './presence.ts'
import type { Enrolled } from './settings.ts'
import { serveSocket } from './socket/server.ts'
import { daemonVersion } from './version.ts'

export interface DaemonOptions {
  readonly config: EdgeConfig
  readonly logger: Logger
  /** A line for people, such as the key fallback's warning. */
  readonly warn: (line: string) => void
  /** This machine's clock, milliseconds since 1970. */
  readonly now?: () => number
}

/** A running daemon. */
export interface Daemon {
  readonly socket: string
  /** Where it listens besides, `host:port`. */
  readonly binds: readonly string[]
  /** Resolves with what makes it impossible to go on. */
  readonly failed: Promise<CodedError>
  readonly stop: () => Promise<void>
}

/** One attempt after another until the gateway admits this key, with full jitter between them. */
const connectPersistently = async (
  { identity, descriptor, keys }: Boot,
  { config, logger, now = Date.now }: DaemonOptions,
  { presence, signal }: { presence: Presence; signal: AbortSignal },
): Promise<Link | undefined> => {
  const { floorMs, firstCeilingMs, ceilingMs } = config.reconnect ?? edgeReconnect
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    try {
      return await connectGateway({
        url: descriptor.url,
        gatewayId: descriptor.gateway_id,
        kid: identity.device_id,
        key: keys.privateKey,
        lenser: identity.lenser,
        ...(config.reconnect === undefined ? {} : { reconnect: config.reconnect }),
        logger,
        now,
        subjects: ctlSubjects(identity.lenser, identity.device_id),
      })
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      presence.onConnectFailed(error)
      logger.warn({ event: 'connect_failed', code: error.code }, 'the gateway was not reached')
    }
    const ceiling = Math.min(ceilingMs, firstCeilingMs * 2 ** Math.min(attempt, 30))
    const delay = floorMs + Math.random() * Math.max(0, ceiling - floorMs)
    await sleep(delay, undefined, { signal }).catch(() => {})
  }
  return undefined
}

/** This device's public half, as the loopback listener shows it. */
const describeIdentity = ({ device_id, name, lenser, gateway_id, public_key }: Enrolled) => ({
  ...{ device_id, name, lenser_id: lenser, gateway_id, public_key },
})

/** What `status` shows, of parts that each know their own. */
const describe = (
  { identity, descriptor }: Boot,
  parts: { presence: Presence; trust: GatewayTrust; outbox: object; heartbeatAt: number | null; since: number },
) => ({
  device_id: identity.device_id,
  name: identity.name,
  lenser_id: identity.lenser,
  gateway_id: descriptor.gateway_id,
  public_key: identity.public_key,
  daemon_version: daemonVersion,
  pid: process.pid,
  since: parts.since,
  connection: parts.presence.connection(),
  trust_level: parts.presence.level() ?? null,
  code: parts.presence.obstacle() ?? null,
  clock_offset_ms: parts.presence.clockOffsetMs() ?? null,
  last_heartbeat_at: parts.heartbeatAt,
  keys_number: parts.trust.keysNumber(),
  outbox: parts.outbox,
})

/**
 * Starts the daemon: the one process that signs for this device. It runs without the gateway too: what it is given then
 * waits on the disk.
 * @throws CodedError as `boot` and `serveSocket` do
 */
export const startDaemon = async (options: DaemonOptions): Promise<Daemon> => {
  const { config, logger, warn, now = Date.now } = options
  const booted = await boot(config, warn)
  const { store, settings, identity, descriptor, keys, bind } = booted
  const stopping = new AbortController()
  const { promise: failed, resolve: fail } = Promise.withResolvers<CodedError>()
  const since = Date.now()
  let session: DeviceSession | undefined
  let knowsClock = false
  let link: Link | undefined

  const signer = createSigner({ kid: identity.device_id, key: keys.privateKey, now })
  const counter = createCounter(store)
  const presence = createPresence()
  const recheck = (): void => session?.recheck()
  const trust = createTrust({
    descriptor,
    keys: settings.get('keys'),
    onKeys: (choose) => settings.update('keys', choose),
  })
  const outbox = createOutbox({
    store,
    logger,
    timing: config.resend,
    check: (body) => {
      checkOperation(body, descriptor.gateway_id)
      // What cannot be signed, for its size, would otherwise be tried for ever.
      signer.sign({ body: { ...body, aud: descriptor.gateway_id } })
    },
    onRefused: recheck,
  })
  const heartbeat = createHeartbeat({
    everyMs: config.heartbeatMs,
    body: () => ({ daemon_version: daemonVersion, gateway_status: presence.obstacle() ? 'degraded' : 'connected' }),
    logger,
    onRefused: recheck,
  })
  outbox.failAll('device_revoked', 'this machine was enrolled anew', identity.device_id)

  const canary = createCanary(now)
  const binds: string[] = []
  const status = () => ({
    ...describe(booted, { presence, trust, since, outbox: outbox.status(), heartbeatAt: heartbeat.acceptedAt() }),
    binds,
  })
  const methods = createMethods({ identity, outbox, presence, canary, status, refresh: async () => session?.refresh() })
  const pages = createPages({
    identity: () => describeIdentity(identity),
    obstacle: presence.obstacle,
    pending: () => outbox.status().open,
  })
  const server = await serveSocket(config.socket, methods, logger).catch((error: unknown) => {
    booted.release()
    throw error
  })
  const http = await serveHttp({ host: bind, port: config.port }, pages).catch(async (error: unknown) => {
    await server.close()
    booted.release()
    throw error
  })
  binds.push(http.address)

  const open = (opened: Link): void => {
    link = opened
    presence.onLink('connected')
    opened.onEvent(presence.onLink)
    session = openDeviceSession({
      ...{ link: opened, identity, signer, counter, trust, outbox, heartbeat, canary, timing: config, logger, now },
      onStanding: (standing) => {
        const { clockOffsetMs } = standing
        const isFirst = !knowsClock && clockOffsetMs !== undefined
        knowsClock ||= isFirst
        presence.onStanding(standing)
        logger.info(
          { event: 'standing', trust_level: presence.level(), code: presence.obstacle() },
          'where this device stands',
        )
        // RFC-0003 §8: a daemon does not start on a wrong clock; one that runs waits for it to be set.
        if (isFirst && isClockOff(clockOffsetMs)) fail(new CodedError('iat_window'))
        if (presence.level() === 'revoked') outbox.failAll('device_revoked', 'the device was revoked')
      },
    })
  }
  const linking = connectPersistently(booted, options, { presence, signal: stopping.signal })
  void linking.then((opened) => {
    if (stopping.signal.aborted) void opened?.close()
    else if (opened !== undefined) open(opened)
  })

  return {
    socket: config.socket,
    binds,
    failed,
    stop: async () => {
      stopping.abort()
      await server.close()
      await http.close()
      session?.end()
      outbox.close()
      await link?.close()
      booted.release()
    },
  }
}
