import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { ReconnectTiming } from '@lenserfight/bus/edge'
import { readPrivateFile } from '@lenserfight/keychain'
import { CodedError, limits } from '@lenserfight/schemas'
import Type, { Errors, type Static } from '@lenserfight/schemas/typebox'
import type { SessionTiming } from './gateway/device-session.ts'
import { defaultTiming, type Timing } from './outbox/decide.ts'
import { refuseServiceRole } from './service-role.ts'

// Nothing here imports the bus or the logger: `lf run` reads this too, and starts the faster without.
const logLevels = ['debug', 'info', 'warn', 'error'] as const
const Milliseconds = Type.Integer({ minimum: 10, maximum: 24 * 3600 * 1000 })
const closed = { additionalProperties: false } as const

/** `daemon.json` in the state folder; every member may be absent. */
const FileConfig = Type.Object(
  {
    log_level: Type.Optional(Type.Union(logLevels.map((level) => Type.Literal(level)))),
    heartbeat_ms: Type.Optional(Milliseconds),
    pending_poll_ms: Type.Optional(Milliseconds),
    status_poll_ms: Type.Optional(Milliseconds),
    permit_renew_ms: Type.Optional(Milliseconds),
    sync_flush_ms: Type.Optional(Milliseconds),
    sync_pull_ms: Type.Optional(Milliseconds),
    run_left_ms: Type.Optional(Milliseconds),
    resend_floor_ms: Type.Optional(Milliseconds),
    resend_ceiling_ms: Type.Optional(Milliseconds),
    reconnect: Type.Optional(
      Type.Object({ floor_ms: Milliseconds, first_ceiling_ms: Milliseconds, ceiling_ms: Milliseconds }, closed),
    ),
  },
  closed,
)
type FileConfig = Static<typeof FileConfig>

/** Where things lie on this machine. */
export interface EdgePaths {
  /** `~/.lenserfight`: the session's file. */
  readonly profileFolder: string
  readonly profileFile: string
  /** Held by whoever changes that file. */
  readonly profileLockFile: string
  /** `~/.lenserfight/gateway`: the daemon's own (CO-3). */
  readonly stateFolder: string
  readonly stateFile: string
  /** Where the file fallback keeps keys. */
  readonly keysFolder: string
  readonly lockFile: string
  readonly socket: string
  /** What a program shows to read the loopback listener's pages. */
  readonly tokenFile: string
  readonly configFile: string
}

/** What daemon and CLI are told from outside. Nothing in it is secret. */
export interface EdgeConfig extends EdgePaths, SessionTiming {
  /** `LF_GATEWAY_KEY_FILE_FALLBACK`, as it stands. */
  readonly fileFallback: string | undefined
  readonly logLevel: (typeof logLevels)[number]
  readonly heartbeatMs: number
  /** How often a run is renewed while its runner is alive; a permit never holds for over 60 s. */
  readonly permitRenewMs: number
  /** A run that awaits a person, and that nobody here waits for for so long, is taken back. */
  readonly runLeftMs: number
  /** How long edits of objects are gathered before they are flushed, and how often the feed is read at least. */
  readonly syncFlushMs: number
  readonly syncPullMs: number
  readonly resend: Timing
  /** `LF_GATEWAY_BIND`: where the loopback listener is to be, as it stands; judged by `resolveBind`. */
  readonly bind: string
  /** `LF_GATEWAY_PORT`; 0 picks a free one. */
  readonly port: number
  /** The bus's own where absent. */
  readonly reconnect: ReconnectTiming | undefined
}

/** The environment that is read: LENSERFIGHT_HOME, LF_GATEWAY_HOME, _KEY_FILE_FALLBACK, _BIND and _PORT. */
export type EdgeEnvironment = Readonly<Record<string, string | undefined>>

/** Where things lie, by the environment. */
export const edgePaths = (env: EdgeEnvironment = process.env): EdgePaths => {
  const profileFolder = resolve(env.LENSERFIGHT_HOME || join(homedir(), '.lenserfight'))
  const stateFolder = resolve(env.LF_GATEWAY_HOME || join(profileFolder, 'gateway'))
  return {
    profileFolder,
    profileFile: join(profileFolder, 'lenserfight.json'),
    profileLockFile: join(profileFolder, 'lenserfight.lock'),
    keysFolder: join(stateFolder, 'keys'),
    stateFolder,
    stateFile: join(stateFolder, 'state.db'),
    lockFile: join(stateFolder, 'daemon.lock'),
    socket: join(stateFolder, 'daemon.sock'),
    tokenFile: join(stateFolder, 'daemon.token'),
    configFile: join(stateFolder, 'daemon.json'),
  }
}

const readJson = (file: string): unknown => {
  const text = readPrivateFile(file)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, so it is no cause to hand on.
    throw new CodedError('config_invalid', `${file} is not JSON`)
  }
}

const reconnectOf = ({ reconnect }: FileConfig): ReconnectTiming | undefined =>
  reconnect && {
    floorMs: reconnect.floor_ms,
    firstCeilingMs: reconnect.first_ceiling_ms,
    ceilingMs: reconnect.ceiling_ms,
  }

const checkFile = (value: unknown, file: string): FileConfig => {
  const [first] = Errors(FileConfig, value)
  if (first !== undefined)
    throw new CodedError('config_invalid', `${file}: ${first.instancePath || '/'} ${first.message}`)
  return value as FileConfig
}

const defaultBind = '127.0.0.1'
const defaultPort = '38080'

/** @throws CodedError `config_invalid` */
export const readPort = (text: string): number => {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65535) throw new CodedError('config_invalid', 'a port is a number up to 65535')
  return port
}

/**
 * The configuration of everything on this machine, read once: environment first, then `daemon.json`.
 * @throws CodedError `service_role_in_daemon` (SH-4) before anything else is done, `config_invalid`,
 * `insecure_permissions`
 */
export const readEdgeConfig = (env: EdgeEnvironment = process.env): EdgeConfig => {
  refuseServiceRole({ environment: env })
  const paths = edgePaths(env)
  const raw = readJson(paths.configFile) ?? {}
  refuseServiceRole({ [paths.configFile]: raw, [paths.profileFile]: readJson(paths.profileFile) })
  const file = checkFile(raw, paths.configFile)
  return Object.freeze({
    ...paths,
    fileFallback: env.LF_GATEWAY_KEY_FILE_FALLBACK,
    logLevel: file.log_level ?? 'info',
    heartbeatMs: file.heartbeat_ms ?? limits.heartbeatSeconds * 1000,
    permitRenewMs: file.permit_renew_ms ?? limits.permitRenewSeconds * 1000,
    syncFlushMs: file.sync_flush_ms ?? limits.syncFlushSeconds * 1000,
    syncPullMs: file.sync_pull_ms ?? limits.syncPullSeconds * 1000,
    runLeftMs: file.run_left_ms ?? 30_000,
    pendingPollMs: file.pending_poll_ms ?? 5_000,
    statusPollMs: file.status_poll_ms ?? 60_000,
    // Empty is told apart from absent: listeners take an empty name for every address.
    bind: env.LF_GATEWAY_BIND ?? defaultBind,
    port: readPort(env.LF_GATEWAY_PORT || defaultPort),
    resend: {
      resendFloorMs: file.resend_floor_ms ?? defaultTiming.resendFloorMs,
      resendCeilingMs: file.resend_ceiling_ms ?? defaultTiming.resendCeilingMs,
      resignFloorMs: defaultTiming.resignFloorMs,
    },
    reconnect: reconnectOf(file),
  })
}
