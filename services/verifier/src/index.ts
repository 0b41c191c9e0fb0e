/** @lenserfight/verifier: the parts of the verifier, for tests and the bench; the process is main.ts. */
export { assemble, type VerifiedBatch } from './assemble.ts'
export { type ClaimStore, claimArguments, createClaimStore, type ProvenCandidate, withDigest } from './commit.ts'
export * from './decide.ts'
export { createSignaturePool, type SignaturePool } from './signatures/pool.ts'
export { type Stage, type StageTimes, stages } from './stopwatch.ts'
