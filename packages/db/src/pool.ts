import type { Logger } from '@lenserfight/runtime'
import pg from 'pg'

export type Pool = pg.Pool
/** One connection, taken from a pool or made by itself. */
export type Connection = pg.ClientBase

export interface PoolOptions {
  /** Host name, or the folder of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: string
  /** Connections at most. */
  readonly max: number
  readonly logger: Logger
  /** A statement that runs longer is cancelled. Milliseconds. */
  readonly statementTimeoutMs?: number
  /** A connection that takes longer to make, or to get from a busy pool, is given up. Milliseconds. */
  readonly connectTimeoutMs?: number
}

/** How much longer than the server's own limit an answer is waited for, since a server may be gone without a word. */
const answerGraceMs = 2_000
/** A worker that stopped in the midst of a transaction holds nobody up for longer. */
const idleInTransactionMs = 10_000

/**
 * Connections of one role, made as they are needed. bigint comes as a string, timestamptz as a Date, bytea as a Buffer.
 * Never throws itself; who uses it gets what `toReason` says.
 */
export const createPool = (options: PoolOptions): Pool => {
  const { host, port, database, user, password, max, logger } = options
  const { statementTimeoutMs = 30_000, connectTimeoutMs = 5_000 } = options
  const pool = new pg.Pool({
    ...{ host, port, database, user, password, max },
    application_name: String(logger.bindings().service ?? 'ltg'),
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + answerGraceMs,
    idle_in_transaction_session_timeout: idleInTransactionMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  })
  // A connection that breaks while nobody uses it; whoever needs one next makes another.
  pool.on('error', (err) => logger.warn({ event: 'db_connection_lost', err }, 'an idle database connection broke'))
  // One that breaks while somebody holds it tells them by their statement; without a listener it would end the process too.
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}
