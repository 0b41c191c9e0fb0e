/** @lenserfight/runner: what runs things asks of this machine's daemon, typed. */

export { RunRefused } from '@lenserfight/daemon/client'
export { CodedError, type ReasonCode, type RunFile } from '@lenserfight/schemas'
export { type HashedOutputs, hashCommand, hashFile, hashJson, hashOutputs, hashRest } from './hash.ts'
export type { Awaiting, GivenUp, Permit, PermitRequest } from './permit.ts'
export type { Attested, Run, RunEnd, ToolUse } from './run.ts'
export { openRunner, type Runner, type RunnerOptions } from './runner.ts'
