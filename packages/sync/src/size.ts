import { canonicalize } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { read } from './read.ts'
import { textOf } from './text.ts'
import type { ObjectState } from './types.ts'

/** Whether an object is larger than one may be: in its paths and writers, with all that is stored of it, or as it reads. */
export const isTooLarge = (className: string, state: ObjectState): boolean => {
  if (Object.keys(state.paths).length > limits.objectPaths) return true
  if (Object.keys(state.clock).length > limits.clockActors) return true
  const stored = Buffer.byteLength(textOf(state))
  if (stored > limits.objectStateBytes) return true
  // What it reads is part of what is stored.
  return (
    stored > limits.objectBytes && Buffer.byteLength(canonicalize(read(className, state).paths)) > limits.objectBytes
  )
}
