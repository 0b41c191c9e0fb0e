import {
  accountExports,
  limits,
  type Permissions,
  type ServiceName,
  serviceNames,
  servicePermissions,
} from '@lenserfight/schemas'
import { systemInbox } from './connect-system.ts'

export interface BrokerConfigOptions {
  /** Public user NKey of each worker. */
  readonly workers: Readonly<Record<ServiceName, string>>
  /** Public user NKey of the system account's user, for kicks. */
  readonly system: string
  /** Public account NKey that signs the callout's user JWTs. */
  readonly calloutIssuer: string
  /** Whether connections of edges are judged by the auth callout. Off, nobody but `edgeUsers` gets into EDGE. */
  readonly callout: boolean
  /** Public user NKeys with every `ltg.v1` subject of EDGE: for a harness without callout, where the verifier is the first wall. */
  readonly edgeUsers?: readonly string[]
  /** Left out where the command line says it. */
  readonly port?: number
  /** Left out where the command line says it. */
  readonly jetstreamDir?: string
  /** Left out where the command line says it. */
  readonly logFile?: string
  /** Seconds that a connection may take to be admitted, the callout's answer included. */
  readonly authTimeoutSeconds?: number
}

const quoted = (subjects: readonly string[]): string =>
  `[${subjects.map((subject) => JSON.stringify(subject)).join(', ')}]`

/** An empty list allows everything in this configuration language: nothing is said as "deny all". */
const rule = (subjects: readonly string[]): string =>
  subjects.length === 0 ? '{ deny: [">"] }' : `{ allow: ${quoted(subjects)} }`

const user = (nkey: string, { publish, subscribe }: Permissions): string =>
  `{ nkey: ${nkey}, permissions: { publish: ${rule(publish)}, subscribe: ${rule(subscribe)} } }`

const streamExports = (subjects: readonly string[]): string[] => subjects.map((subject) => `{ stream: "${subject}" }`)
const streamImports = (account: string, subjects: readonly string[]): string[] =>
  subjects.map((subject) => `{ stream: { account: ${account}, subject: "${subject}" } }`)

const list = (name: string, lines: readonly string[]): string =>
  `    ${name}: [\n${lines.map((line) => `      ${line}`).join('\n')}\n    ]`

/** An edge hears its answers and its orders, and needs no more subscriptions than these. */
const edgeSubscriptions = 16
/** The broker writes a line for each forbidden message, so whoever is connected can have it write without end: it writes around. */
const logFileBytes = 64 * 1024 * 1024
const logFiles = 4
const edgeConnections = limits.brokerConnections - limits.workerConnections

const kick = { publish: ['$SYS.REQ.SERVER.*.KICK'], subscribe: [`${systemInbox}.>`] }
const everything = { publish: ['ltg.v1.>'], subscribe: ['ltg.v1.>'] }

/**
 * The broker's configuration, made from the topology table: three accounts, what crosses between them, each worker's
 * permissions, and the auth callout through which alone an edge gets in (protocol.md, Accounts).
 */
export const brokerConfig = (options: BrokerConfigOptions): string => {
  const { workers, system, calloutIssuer, callout, edgeUsers = [], port, jetstreamDir, logFile } = options
  const { edgeToCore, coreToEdge } = accountExports
  const core = serviceNames.map((service) => user(workers[service], servicePermissions(service)))
  // Every static user has to be named, or the server asks the callout about it too.
  const known = [...serviceNames.map((service) => workers[service]), system, ...edgeUsers]
  const store = jetstreamDir === undefined ? '' : `  store_dir: ${JSON.stringify(jetstreamDir)}\n`
  return `# Made from the topology table (schemas/src/topology.ts); change it there.
host: "127.0.0.1"
${port === undefined ? '' : `port: ${port}\n`}server_name: "ltg"
max_payload: ${limits.brokerPayloadBytes}
max_connections: ${limits.brokerConnections}
ping_interval: "30s"
ping_max: 2
write_deadline: "10s"
${logFile === undefined ? '' : `log_file: ${logFile}\n`}logfile_size_limit: ${logFileBytes}
logfile_max_num: ${logFiles}

jetstream {
${store}  max_memory_store: 64MB
  max_file_store: ${limits.ingressBytes + limits.verifiedBytes + limits.deadletterBytes + 256 * 1024 * 1024}
}

accounts {
  SYS: {
${list('users', [user(system, kick)])}
  }
  CORE: {
    jetstream: enabled
${list('users', core)}
${list('exports', streamExports(coreToEdge))}
${list('imports', streamImports('EDGE', edgeToCore))}
  }
  EDGE: {
    # Payload and subscriptions of each connection; connections of all, so that workers find room whatever edges do.
    # Here, since the server reads no limits from the callout's user JWTs.
    limits: { max_payload: ${limits.userPayloadBytes}, max_subscriptions: ${callout ? edgeSubscriptions : -1}, max_connections: ${edgeConnections} }
${list(
  'users',
  edgeUsers.map((nkey) => user(nkey, everything)),
)}
${list('exports', streamExports(edgeToCore))}
${list('imports', streamImports('CORE', coreToEdge))}
  }
}
system_account: SYS

authorization {
  timeout: ${options.authTimeoutSeconds ?? 5}
${
  callout
    ? `  auth_callout {
    issuer: ${calloutIssuer}
    account: CORE
    auth_users: [${known.join(', ')}]
  }
`
    : ''
}}
`
}
