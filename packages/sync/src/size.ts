import { canonicalize } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { isReserved } from './clock.ts'
import { read } from './read.ts'
import { textOf } from './text.ts'
import type { ObjectState } from './types.ts'

/** Whether more writers than may be are named, the gateway's own not counted: nobody fills up what a person's decision needs. */
const hasTooManyWriters = ({ clock }: ObjectState): boolean =>
  Object.keys(clock).filter((actor) => !isReserved(actor)).length > limits.clockActors

/** Whether an object is larger than one may be: in its paths, writers and writes, with all that is stored of it, or as it reads. */
export const isTooLarge = (className: string, state: ObjectState): boolean => {
  if (Object.keys(state.paths).length > limits.objectPaths) return true
  if (hasTooManyWriters(state)) return true
  if (Object.values(state.paths).some((writes) => writes.length > limits.writesPerPath)) return true
  const stored = Buffer.byteLength(textOf(state))
  if (stored > limits.objectStateBytes) return true
  // What it reads is part of what is stored.
  return (
    stored > limits.objectBytes && Buffer.byteLength(canonicalize(read(className, state).paths)) > limits.objectBytes
  )
}
