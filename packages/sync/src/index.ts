/** @lenserfight/sync: how objects merge, the same code on machines and in the applier. No I/O. */
export { type Admission, admit, type Known } from './admit.ts'
export {
  actorOf,
  countOf,
  covers,
  emptyClock,
  isBefore,
  isReserved,
  joinClocks,
  meetClocks,
  partsOf,
  reservedActor,
  sumOf,
  tick,
} from './clock.ts'
export { type Checksum, checksumOf, checksumPart, digestOf, emptyChecksum, linkOf } from './digest.ts'
export { apply, type Change, edit } from './edit.ts'
export { deltaOf, entryOf } from './entry.ts'
export { emptyState, join, stateOf } from './join.ts'
export { compareWrites } from './order.ts'
export { type Conflict, conflictsOf, read, type View } from './read.ts'
export { reopened, resolved } from './resolve.ts'
export { recovered, rewritten, type Unconfirmed } from './rewrite.ts'
export { isTooLarge } from './size.ts'
export type { Actor, Clock, Delta, Json, ObjectName, ObjectState, Write } from './types.ts'
