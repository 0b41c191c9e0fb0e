import { edgeReconnect } from '@lenserfight/bus/edge'
import type { Logger } from '@lenserfight/runtime'
import { CodedError, ctlSubjects, kindsInState, type ReasonCode } from '@lenserfight/schemas'
import { type Boot, boot } from './boot.ts'
import { checkOperation } from './check-operation.ts'
import { isClockOff } from './checks/clock.ts'
import type { EdgeConfig } from './config.ts'
import { createCounter } from './counter.ts'
import { describeDaemon, describeIdentity } from './describe.ts'
import { createCanary } from './gateway/canary.ts'
import { type Connector, keepConnected } from './gateway/connector.ts'
import { type NoStanding, openDeviceSession, type Standing } from './gateway/device-session.ts'
import { createHeartbeat } from './gateway/heartbeat.ts'
import { connectGateway, type Link } from './gateway/link.ts'
import { createTrust } from './gateway/trust.ts'
import { createPages } from './http/pages.ts'
import { type HttpServer, type Pages, serveHttp } from './http/server.ts'
import { createPageToken, type PageToken } from './http/token.ts'
import { keyFactsOf } from './keys/change.ts'
import { createRotation } from './keys/rotation.ts'
import { createLifecycle } from './lifecycle.ts'
import { createMethods, type MethodsOptions } from './methods.ts'
import { createOutbox } from './outbox/outbox.ts'
import { createPresence } from './presence.ts'
import { createAwaited } from './runs/awaited.ts'
import { createRunBook } from './runs/book.ts'
import { createRuns } from './runs/runs.ts'
import { type Methods, type SocketServer, serveSocket } from './socket/server.ts'
import { createSync } from './sync/sync.ts'
import { daemonVersion } from './version.ts'

/** How long an orderly stop waits for the receipt of its own event. */
const stopReceiptMs = 2_000
/** How long a pull that a program asks for by HTTP is waited for, milliseconds. */
const pagePullMs = 15_000
/** How often it is looked whether the state folder is still there, milliseconds. */
const folderLookMs = 1_000

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

/** RFC-0003 §8: what only the gateway's first answer can tell, and a daemon does not start with. */
const refusalAtStart = (said: Standing | NoStanding): ReasonCode | undefined => {
  if (said.clockOffsetMs !== undefined && isClockOff(said.clockOffsetMs)) return 'clock_skew'
  return 'isPaused' in said && said.isPaused ? 'workspace_paused' : undefined
}

/** The part that serves this machine: socket and loopback listener, or neither. */
const serveMachine = async (
  { config, logger }: DaemonOptions,
  bind: string,
  parts: { methods: Methods; pages: Pages },
): Promise<{ http: HttpServer; close: () => Promise<void> }> => {
  const socket: SocketServer = await serveSocket(config.socket, parts.methods, logger)
  let token: PageToken | undefined
  try {
    token = createPageToken(config.tokenFile)
    const http = await serveHttp({ host: bind, port: config.port }, { pages: parts.pages, token })
    const { revoke } = token
    return {
      http,
      close: async () => {
        revoke()
        await socket.close()
        await http.close()
      },
    }
  } catch (error) {
    token?.revoke()
    await socket.close()
    throw error
  }
}

/**
 * Starts the daemon: the one process that signs for this device. It runs without the gateway too: what it is given then
 * waits on the disk.
 * @throws CodedError as `boot`, `serveSocket` and `serveHttp` do
 */
export const startDaemon = async (options: DaemonOptions): Promise<Daemon> => {
  const booted = await boot(options.config, options.warn, options.now)
  try {
    return await run(booted, options)
  } catch (error) {
    booted.release()
    throw error
  }
}

const run = async (booted: Boot, options: DaemonOptions): Promise<Daemon> => {
  const { config, logger, now = Date.now } = options
  const { store, settings, descriptor, changes, ring, bind } = booted
  const { device_id, lenser, gateway_id } = booted.identity
  const { promise: failed, resolve: fail } = Promise.withResolvers<CodedError>()
  const since = Date.now()
  let connector: Connector | undefined
  let binds: readonly string[] = []
  let isFirstWord = true
  let isRefused = false
  let toldStanding: string | undefined

  const presence = createPresence(now)
  const trust = createTrust({
    descriptor,
    keys: settings.get('keys'),
    onKeys: (choose) => settings.update('keys', choose),
  })
  const recheck = (): void => connector?.session()?.recheck()
  const onRefused = (code: ReasonCode): void => {
    if (code === 'signature_mismatch') void connector?.refused()
    if (code === 'key_expired') rotation.expired()
    recheck()
  }
  const outbox = createOutbox({
    store,
    logger,
    timing: config.resend,
    check: (body) => {
      checkOperation(body, gateway_id)
      // What cannot be signed, for its size, would otherwise be tried for ever.
      ring.signer.sign({ body: { ...body, aud: gateway_id } })
    },
    onRefused,
    onUnable: presence.onUnable,
    onEnded: ({ kind, opId }) => {
      if (kind === 'rotate') rotation.ended(opId)
      const operation = kind === 'run_start' ? outbox.find(opId) : undefined
      if (operation !== undefined) awaited.ended(operation)
      sync.ended(kind)
    },
  })
  const rotation = createRotation({
    ...{ changes, outbox, logger, now, askInForce: recheck },
    mayRotate: () => kindsInState('in', presence.level() ?? 'blocked').includes('rotate'),
    onKeys: async () => {
      await ring.reload()
      connector?.rekey()
    },
    tryKey: async (publicKey) => {
      await ring.reload()
      ring.use(publicKey)
      connector?.rekey()
    },
  })
  const runs = createRuns({ renewMs: config.permitRenewMs, logger, onRefused, onUnable: presence.onUnable })
  const book = createRunBook(store, now)
  const enqueue: MethodsOptions['enqueue'] = (kind, body) =>
    outbox.enqueue({ kid: changes.identity().device_id, kind, body })
  const awaited = createAwaited({
    ...{ book, runs, enqueue, logger, leftMs: config.runLeftMs },
    clockOffsetMs: presence.clockOffsetMs,
  })
  const heartbeat = createHeartbeat({
    everyMs: config.heartbeatMs,
    body: () => ({
      ...{
        daemon_version: daemonVersion,
        gateway_status: (presence.obstacle() ?? sync.failing()) ? 'degraded' : 'connected',
      },
      runners: runs.runners(),
    }),
    logger,
    onRefused,
    onUnable: presence.onUnable,
    onResult: (result) => rotation.learn(keyFactsOf(result)),
  })
  const sync = createSync({
    ...{ store, outbox, logger, onRefused, now, deviceId: () => device_id, onUnable: presence.onUnable },
    ...{ flushMs: config.syncFlushMs, pullMs: config.syncPullMs, timing: config.resend },
    account: `${gateway_id}/${lenser}`,
  })
  const counter = createCounter(store)
  const canary = createCanary(now)
  const lifecycle = createLifecycle({ store, outbox, deviceId: device_id, now })

  const refuse = (code: ReasonCode): void => {
    isRefused = true
    // First: it ends also where its refusal cannot be kept.
    fail(new CodedError(code))
    lifecycle.refused(code)
  }
  /** What is as it was told already is not told again: it is looked at every few seconds. */
  const tellStanding = (): void => {
    const standing = { trust_level: presence.level(), code: presence.obstacle() }
    const told = JSON.stringify(standing)
    if (told !== toldStanding) logger.info({ event: 'standing', ...standing }, 'where this device stands')
    toldStanding = told
  }
  const onStanding = (said: Standing | NoStanding): void => {
    presence.onStanding(said)
    tellStanding()
    if ('refused' in said) onStandingRefused(said.refused)
    else {
      connector?.known()
      rotation.learn(said.key)
    }
    const refusal = isFirstWord ? refusalAtStart(said) : undefined
    // One that runs waits for its clock to be set, and for its owner to go on.
    isFirstWord &&= said.clockOffsetMs === undefined
    if (refusal !== undefined) refuse(refusal)
    if (presence.level() === 'revoked') outbox.failAll('device_revoked', 'the device was revoked')
  }
  const onStandingRefused = (code: ReasonCode): void => {
    if (code === 'signature_mismatch') void connector?.refused()
  }

  outbox.failAll('device_revoked', 'this machine was enrolled anew', device_id)
  outbox.abandonAll('run_start')
  sync.resume()
  await rotation.resume()
  await ring.reload()

  const methods = createMethods({
    ...{ outbox, presence, rotation, canary, runs, heartbeat, identity: changes.identity },
    ...{ book, awaited, enqueue, sync },
    status: () =>
      describeDaemon({
        ...{ descriptor, presence, trust, since, binds, identity: changes.identity() },
        ...{ outbox: outbox.status(), heartbeatAt: heartbeat.acceptedAt() },
      }),
    refresh: async () => connector?.session()?.refresh(),
  })
  const pages = createPages({
    identity: () => describeIdentity(changes.identity()),
    obstacle: presence.obstacle,
    pending: () => outbox.status().open + sync.pending(),
    pull: () => methods['sync.pull']({ timeout_ms: pagePullMs }, AbortSignal.timeout(pagePullMs)),
  })
  const machine = await serveMachine(options, bind, { methods, pages })
  binds = [machine.http.address]
  lifecycle.started()
  awaited.start()
  // What is kept in a folder that is gone reaches nobody any more, and whoever holds its port keeps the next daemon from it.
  const lookAtFolder = setInterval(() => {
    if (booted.isThere()) return
    clearInterval(lookAtFolder)
    fail(new CodedError('state_unwritable', `${config.stateFolder} is gone or another; this daemon ends`))
  }, folderLookMs)

  connector = keepConnected({
    ...{ ring, presence, logger, timing: config.reconnect ?? edgeReconnect },
    connect: ({ privateKey: key }): Promise<Link> =>
      connectGateway({
        ...{ url: descriptor.url, gatewayId: gateway_id, kid: device_id, key, lenser, logger, now },
        ...(config.reconnect === undefined ? {} : { reconnect: config.reconnect }),
        subjects: ctlSubjects(lenser, device_id),
      }),
    openSession: (link) =>
      openDeviceSession({
        ...{ link, trust, counter, outbox, heartbeat, canary, runs, sync, timing: config, logger, now, onStanding },
        ...{ identity: booted.identity, signer: ring.signer },
      }),
  })

  return {
    socket: config.socket,
    binds,
    failed,
    stop: async () => {
      clearInterval(lookAtFolder)
      await machine.close()
      awaited.close()
      runs.close()
      sync.close()
      if (!isRefused && booted.isThere())
        await lifecycle.stopped(presence.connection() === 'connected' ? stopReceiptMs : 0)
      await connector.close()
      await rotation.idle()
      outbox.close()
      booted.release()
    },
  }
}
