import { type CodedError, limits } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import type { Output } from '../output.ts'

/** What a command does; a number is its exit code. */
export type Act = (context: Context) => Promise<number | undefined>
/** What a command says where the configuration is refused, for one whose finding that is; returns its exit code. */
export type Unconfigured = (output: Output, error: CodedError) => Promise<number>
export type Choose = (act: Act, unconfigured?: Unconfigured) => void

/** A command that says by throwing alone that it failed. */
export const asVoid =
  (act: (context: Context) => Promise<unknown>): Act =>
  async (context) => {
    await act(context)
    return undefined
  }

/** A value that is refused, as it is quoted. */
export const shown = (text: string): string => (text === '' ? 'an empty one' : text)

/** A number of seconds that somebody is ready to wait. */
export const seconds = (value: number): number => {
  if (!(value >= 0 && value <= 600)) throw new RangeError('seconds are a number from 0 to 600')
  return value
}

/** A number of seconds that somebody is ready to wait for a person. */
export const approvalSeconds = (value: number): number => {
  if (!(value >= 0 && value <= limits.approvalMaxSeconds))
    throw new RangeError(`seconds of waiting for approval are a number from 0 to ${limits.approvalMaxSeconds}`)
  return value
}

/** What a run is called. */
export const label = (value: string): string => {
  if (value === '' || value.length > limits.runLabelChars || /\p{C}/u.test(value))
    throw new RangeError(`a label is 1 to ${limits.runLabelChars} characters, none of them a control`)
  return value
}

const idForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** An id as the gateway gives them. */
export const id = (value: string): string => {
  if (!idForm.test(value)) throw new RangeError(`an id is needed, as the gateway gives them, not ${shown(value)}`)
  return value
}

/** A name that somebody chose. */
export const name = (value: string): string => {
  if (value.trim() === '') throw new RangeError('a name is not empty')
  return value
}

const reasonChars = 200

/** Why somebody does something, as it goes into the record. */
export const reason = (value: string): string => {
  if (value.trim() === '' || [...value].length > reasonChars) {
    throw new RangeError(`a reason is 1 to ${reasonChars} characters`)
  }
  return value
}

/** Within which time a key is to be changed, seconds. */
export const rotationSeconds = (value: number): number => {
  if (value > limits.rotationRequireSeconds) throw new RangeError('within 30 days at most')
  return value
}
