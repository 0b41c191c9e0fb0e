import { InfrastructureError } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import pg from 'pg'

/** The SQLSTATEs that our own functions raise; what each means, and how `toReason` reads it. */
export const ownStates = {
  /** Text that is no envelope, no base64url: `malformed_envelope`. */
  notAnEnvelope: 'LT001',
  /** A device does not go from that level to this one: `invalid_transition`. */
  invalidTransition: 'LT002',
  /** Evidence is added and never changed: a data error, since no caller of ours tries. */
  appendOnly: 'LT003',
  /** SQL named a code or limit that the contract does not have: a data error. */
  notInContract: 'LT004',
  /** A merge that does not follow from what was stored and pushed: a data error, since no applier of ours makes one. */
  falseMerge: 'LT005',
  /** The broker's clock is ahead of the database's: infrastructure, so that a worker holds and is not ready. */
  brokenClock: 'LT010',
} as const

/** The database refused one call for what it was given: the message that caused it is to blame. */
export class DataError extends CodedError {
  override readonly name = 'DataError'
  /** Five characters, as PostgreSQL reports it. */
  readonly sqlState: string

  constructor(sqlState: string, options?: ErrorOptions) {
    super('internal_error', `SQLSTATE ${sqlState}`, options)
    this.sqlState = sqlState
  }
}

/**
 * SQLSTATEs, or their first characters, that no message is to blame for: lost connections, transactions that lost a race,
 * resources, operator intervention, system errors, a server that does not know us or our functions (yet).
 */
const infrastructure = [
  '08',
  '25006',
  '25P03',
  '28',
  '3D000',
  '3F000',
  '40',
  '42501',
  '42883',
  '42P01',
  '53',
  '55P03',
  '57',
  '58',
  'XX001',
  'XX002',
  ownStates.brokenClock,
]

const ofState = (state: string, error: unknown): CodedError => {
  if (infrastructure.some((prefix) => state.startsWith(prefix))) {
    return new InfrastructureError(`SQLSTATE ${state}`, { cause: error })
  }
  if (state === ownStates.notAnEnvelope) return new CodedError('malformed_envelope', undefined, { cause: error })
  if (state === ownStates.invalidTransition) return new CodedError('invalid_transition', undefined, { cause: error })
  return new DataError(state, { cause: error })
}

/** Whether a call was cancelled because its statement ran longer than it may. Less of the same may get done. */
export const tookTooLong = (error: unknown): boolean =>
  error instanceof InfrastructureError && error.cause instanceof pg.DatabaseError && error.cause.code === '57014'

/** What `pg` says, without a code, when it has no connection or got no answer in time. */
const clientFailure =
  /^(Connection terminated|Client (has encountered|was closed)|Query read timeout|timeout e|Cannot use a pool|SASL)/

/** Whether an error is one of the database's or of the connection to it, and not of whoever used it. */
export const isDatabaseFailure = (error: unknown): boolean =>
  error instanceof pg.DatabaseError ||
  (error instanceof Error && ('syscall' in error || clientFailure.test(error.message)))

/**
 * What a failed call of the database means. What the server said goes by its SQLSTATE; what the client said (no
 * connection, no answer in time) is infrastructure. Never quotes the server's message, which may hold values.
 */
export const toReason = (error: unknown): CodedError => {
  if (error instanceof CodedError) return error
  if (error instanceof pg.DatabaseError) return ofState(error.code ?? 'XX000', error)
  if (error instanceof TypeError || error instanceof RangeError) return new DataError('07006', { cause: error })
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'no connection'
  return new InfrastructureError(`database: ${code}`, { cause: error })
}
