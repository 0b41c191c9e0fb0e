import Type, { type Static } from '../../typebox/index.mjs'
import { reasonCodes } from '../codes.ts'
import { limits } from '../limits.ts'
import {
  Bytes16,
  Bytes32,
  Bytes64,
  body,
  counted,
  countedOperation,
  Nullable,
  ShortText,
  UnixMilliseconds,
  Uuid,
} from './common.ts'

/** The `auth_token` of every connection; `public_key` only on a session's first connect. */
export const ConnectBody = body('connect', {
  server_nonce: Type.String({ minLength: 11, maxLength: 64, pattern: '^[A-Za-z0-9_-]+$' }),
  public_key: Type.Optional(Bytes32),
})

/** Answer to the challenge that registration gave (DA-1, DA-2). */
export const ChallengeBody = countedOperation('challenge', { device_id: Uuid, challenge: Bytes16 })

/** RH-2: a runner that was alive on this device within the last minute, and how many runs it has under way. */
export const RunnerBeat = Type.Object(
  { runner_id: Uuid, open_runs: Type.Integer({ minimum: 0, maximum: limits.openRuns }) },
  { additionalProperties: false },
)
/** DH-1, DH-2. `gateway_status` is informational and never used for authorization. */
export const HeartbeatBody = counted('heartbeat', {
  daemon_version: ShortText(32),
  gateway_status: ShortText(64),
  /** Those of the account's runners that are alive here, each once (RH-2). */
  runners: Type.Optional(Type.Array(RunnerBeat, { maxItems: limits.runnersPerHeartbeat })),
})

/**
 * Replaces the device's key. The envelope is the old key's signature over the new one; `proof` is the new key's over the
 * old one (`signKeyProof` of @lenserfight/envelope).
 */
export const RotateBody = countedOperation('rotate', { device_id: Uuid, new_public_key: Bytes32, proof: Bytes64 })

/** What a daemon reports of its own life (RFC-0003 §11, R7): its start, its stop, and why it refused to work. */
export const lifecycleEvents = ['start', 'stop', 'refusal'] as const
export const LifecycleBody = countedOperation('lifecycle', {
  event: Type.Enum([...lifecycleEvents]),
  daemon_version: ShortText(32),
  /** When it happened by the device's clock: shown, never relied on. */
  at: UnixMilliseconds,
  /** Why, of a refusal. */
  code: Type.Optional(Type.Enum([...reasonCodes])),
})

/** Goes through every hop and changes nothing: the result names when each hop had it. */
export const CanaryBody = counted('canary', { sent_at: UnixMilliseconds })

/** A file that went in or came out, by its name and SHA-256; never its content. */
export const RunFile = Type.Object(
  { name: ShortText(256), sha256: Bytes32, bytes: Type.Integer({ minimum: 0 }) },
  { additionalProperties: false },
)
const RunFiles = Type.Array(RunFile, { maxItems: limits.runFiles })

/** Asks for a run; the result is its permit: its id, the policy's verdict, the pinned hashes and how long it is covered. */
export const RunStartBody = countedOperation('run_start', {
  /** SHA-256 over the canonical JSON array of the command's words. */
  command_hash: Bytes32,
  inputs: RunFiles,
  /** What the device calls it, for whoever is asked to approve it; nothing rests on it. */
  label: Type.Optional(Type.String({ minLength: 1, maxLength: limits.runLabelChars, pattern: '^[^\\p{C}]+$' })),
  runner_id: Type.Optional(Uuid),
  contender_id: Type.Optional(Uuid),
  submission_id: Type.Optional(Uuid),
  /** A `lenses.versions.id` that the run is pinned to (WT-2). */
  version_id: Type.Optional(Uuid),
})

/**
 * Has the policy judge runs of this device again, so that their permits go on (PE-2); also how a device learns what its owner
 * decided of one that awaits approval. No operation: each is judged at its store time, and the newest verdict holds.
 */
export const RunRenewBody = counted('run_renew', {
  runs: Type.Array(Uuid, { minItems: 1, maxItems: limits.renewalsPerRequest }),
})

/**
 * Takes back a run of this device that nobody wants any more, such as one that awaits a person whom nobody waits for: it frees its
 * place in the account's bounds, and is denied from then on.
 */
export const RunWithdrawBody = countedOperation('run_withdraw', { run_id: Uuid })

/**
 * One entry of a run's tool log (WT-3, R12): logged before the tool is used. `seq` counts from 1 without a gap; the result is
 * the policy's verdict on the tool.
 */
export const ToolInvocationBody = countedOperation('tool_invocation', {
  run_id: Uuid,
  seq: Type.Integer({ minimum: 1, maximum: limits.toolInvocationsPerRun }),
  tool: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' }),
  /** SHA-256 over the canonical JSON of the tool's arguments. */
  arguments_hash: Bytes32,
})

/**
 * What ran and what came of it. The four trust flags may be sent, for older clients, and are never read
 * (EA-3, AC-1, AC-2): the server derives them.
 */
export const AttestationBody = countedOperation('attestation', {
  run_id: Uuid,
  command_hash: Bytes32,
  stdin_hash: Nullable(Bytes32),
  stdout_hash: Nullable(Bytes32),
  inputs: RunFiles,
  outputs: RunFiles,
  lens_hash: Nullable(Bytes32),
  workflow_hash: Nullable(Bytes32),
  started_at: UnixMilliseconds,
  ended_at: UnixMilliseconds,
  exit_code: Nullable(Type.Integer({ minimum: 0, maximum: 255 })),
  signal: Nullable(Type.String({ pattern: '^SIG[A-Z0-9]{1,12}$' })),
  /** Entries of the run's tool log; absent: none. */
  tool_invocations: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.toolInvocationsPerRun })),
  /** What ran it, for what and pinned to what; where given, as the permit has it (trust.md, rule 5). */
  runner_id: Type.Optional(Nullable(Uuid)),
  contender_id: Type.Optional(Nullable(Uuid)),
  version_id: Type.Optional(Nullable(Uuid)),
  signed: Type.Optional(Type.Boolean()),
  gateway_verified: Type.Optional(Type.Boolean()),
  device_trusted: Type.Optional(Type.Boolean()),
  policy_passed: Type.Optional(Type.Boolean()),
})

export type ConnectBody = Static<typeof ConnectBody>
export type ChallengeBody = Static<typeof ChallengeBody>
export type RotateBody = Static<typeof RotateBody>
export type LifecycleBody = Static<typeof LifecycleBody>
export type CanaryBody = Static<typeof CanaryBody>
export type HeartbeatBody = Static<typeof HeartbeatBody>
export type RunnerBeat = Static<typeof RunnerBeat>
export type RunRenewBody = Static<typeof RunRenewBody>
export type RunWithdrawBody = Static<typeof RunWithdrawBody>
export type ToolInvocationBody = Static<typeof ToolInvocationBody>
export type RunFile = Static<typeof RunFile>
export type RunStartBody = Static<typeof RunStartBody>
export type AttestationBody = Static<typeof AttestationBody>
