/** What the cluster's settings depend on. */
export interface ClusterSettings {
  socketDir: string
  port: number
  /** Listen on 127.0.0.1 as well as on the socket. */
  tcp: boolean
  fsync: boolean
  /** Added last, so that they win. */
  extra: Record<string, string>
}

/** The text of `postgresql.conf`. */
export function clusterConfig(settings: ClusterSettings): string {
  const { socketDir, port, tcp, fsync, extra } = settings
  const all: Record<string, string> = {
    listen_addresses: tcp ? '127.0.0.1' : '',
    port: String(port),
    unix_socket_directories: socketDir,
    unix_socket_permissions: '0700',
    max_connections: '200',
    shared_buffers: '128MB',
    password_encryption: 'scram-sha-256',
    // The package brings no LLVM.
    jit: 'off',
    ...(fsync ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
    ...logging,
    ...extra,
  }
  return Object.entries(all)
    .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
    .join('')
}

/** Statements, parameters, keys and rows hold what people signed: none of it belongs in a log. */
const logging = {
  log_destination: 'stderr',
  log_line_prefix: '%m [%p] %q%u@%d ',
  log_timezone: 'UTC',
  log_statement: 'none',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  log_parameter_max_length: '0',
  log_parameter_max_length_on_error: '0',
  log_checkpoints: 'off',
}

/** The text of `pg_hba.conf`: a password for everybody, the owner too, so that roles are really separate. */
export function accessRules(tcp: boolean): string {
  return `local all all scram-sha-256\n${tcp ? 'host all all 127.0.0.1/32 scram-sha-256\n' : ''}`
}
