import { CodedError, type ReasonCode } from '@lenserfight/schemas'

/**
 * What a worker stands on has failed (a lost connection, a timeout, a server shutting down, no disk space): no message
 * is to blame, and the same work may succeed later. The bus loop holds its messages and tries again.
 */
export class InfrastructureError extends CodedError {
  override readonly name = 'InfrastructureError'
  declare readonly code: 'unavailable'

  constructor(detail: string, options?: ErrorOptions) {
    super('unavailable', detail, options)
  }
}

/** The code of whatever was thrown: registered ones as they are, everything else `internal_error`. */
export const codeOf = (error: unknown): ReasonCode => (error instanceof CodedError ? error.code : 'internal_error')
