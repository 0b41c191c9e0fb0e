/** @lenserfight/sync-applier: what tests and tools may use of it; the worker itself is `main.ts`. */
export { ApplierConfig } from './config.ts'
export { decideEnvelope, type Facts } from './decide/envelope.ts'
export { decideMerge, type Merged, type Said } from './decide/merge.ts'
export type { Opened, OpenedEntry, OpenedObject, OpenedPush } from './decide/opened.ts'
export { type AppliedKind, appliedKinds, decode, type Item, isApplied } from './decode.ts'
export { createHandler, type Handler, type HandlerOptions } from './handle.ts'
export { applyPushes, partsOf } from './push.ts'
export { type ApplierStore, createStore, type Pushed } from './store.ts'
