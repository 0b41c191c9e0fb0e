/** @lenserfight/trust-evaluator: what tests and tools may use of it; the worker itself is `main.ts`. */
export { createStore, type EvaluatorStore } from './commit.ts'
export { EvaluatorConfig } from './config.ts'
export { type Decision, decide, type Facts } from './decide.ts'
export { type AppliedKind, appliedKinds, decode, type Item } from './decode.ts'
export { createHandler, type Handler, type HandlerOptions } from './handle.ts'
