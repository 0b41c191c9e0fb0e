import { InfrastructureError } from '@lenserfight/runtime'
import { errors } from '@nats-io/transport-node'

/**
 * What a failed use of the broker means. All of it is infrastructure (no connection, no answer in time, no space), but
 * for a payload that the client itself refused: that is the caller's fault and stays as it is.
 */
export const toBusError = (error: unknown, doing: string): Error => {
  if (error instanceof InfrastructureError || error instanceof errors.InvalidArgumentError) return error
  return new InfrastructureError(`broker: ${doing} failed`, { cause: error })
}
