import { CodedError } from '@lenserfight/schemas'
import type { Conflict, Winner } from '../owner/conflicts.ts'

/** What a person takes: a side by its number as it is shown, or what each side had seen. */
export type Take = number | 'base'

/** What the command line decides: something that is there, or a value of its own. */
export type Decision = { readonly take: Take } | { readonly value: unknown }

export interface Chosen {
  readonly winner: Winner
  /** What will stand there; null is deleted. */
  readonly value: unknown
}

/**
 * The winner of a conflict, as the gateway is told it, and what it comes to. Pure.
 * @throws CodedError `usage` where there is no such side
 */
export const winnerOf = ({ sides, base }: Pick<Conflict, 'sides' | 'base'>, decision: Decision): Chosen => {
  if ('value' in decision) return { winner: { value: decision.value }, value: decision.value }
  if (decision.take === 'base') {
    if (base === null) throw new CodedError('usage', '--take base: what the sides had in common is not kept any more')
    return { winner: { base: true }, value: base.value }
  }
  const side = sides[decision.take - 1]
  if (side === undefined) throw new CodedError('usage', `--take: there are sides 1 to ${sides.length}`)
  return { winner: { side: decision.take - 1 }, value: side.value }
}
