import { canonicalize } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { read } from './read.ts'
import type { ObjectState } from './types.ts'

/** Whether an object is larger than one may be: as it reads, in its paths, or with all that is stored of it. */
export const isTooLarge = (className: string, state: ObjectState): boolean =>
  Object.keys(state.paths).length > limits.objectPaths ||
  Buffer.byteLength(canonicalize(state)) > limits.objectStateBytes ||
  Buffer.byteLength(canonicalize(read(className, state).paths)) > limits.objectBytes
