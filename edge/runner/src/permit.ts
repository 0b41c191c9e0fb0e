import { setTimeout as sleep } from 'node:timers/promises'
import { RunRefused } from '@lenserfight/daemon/client'
import { CodedError, limits, type ReasonCode, type RunFile } from '@lenserfight/schemas'
import { type Answer, type Connection, persist } from './connection.ts'
import { hashCommand, hashFile } from './hash.ts'

/** How long a permit is waited for: an attempt that got no answer is sent once more after 10 s. */
const permitMs = 15_000
/** How long a daemon may be away while a person is awaited. */
const restartMs = 60_000
/** How long the daemon is waited for that is to take a run back. */
const giveUpMs = 2_000
/** Codes after which a run awaits nobody any more. */
const over: readonly ReasonCode[] = [
  'approval_denied',
  'approval_expired',
  'policy_denied',
  'run_withdrawn',
  'run_ended',
]

/** A run that awaits a person: nothing has run. */
export interface Awaiting {
  readonly runId: string
  /** Milliseconds since 1970 by the gateway's clock; null where that is not known. */
  readonly expiresAt: number | null
}

/** A run that is not waited for any more: nothing has run. */
export interface GivenUp {
  readonly runId: string
  /** The daemon has kept that it is taken back; else it does so once it notices that nobody waits. */
  readonly isKept: boolean
}

/** What is to run. */
export interface PermitRequest {
  /** The command's words; only their hash leaves this machine. */
  readonly command: readonly string[]
  /** Files that go in, by path, or hashed already; at most 100. */
  readonly inputs?: readonly (string | RunFile)[]
  /** What the run is called where a person is asked; at most 120 characters. */
  readonly label?: string | undefined
  /** The runner that runs it (its id), which is bound to this device. */
  readonly runner?: string | undefined
  /** The contender that it runs for. */
  readonly contender?: string | undefined
  /** The submission that it backs. */
  readonly submission?: string | undefined
  /** The lens version that it is pinned to. */
  readonly version?: string | undefined
  /** How long the gateway may take, milliseconds; 15 s. */
  readonly timeoutMs?: number
  /** How long a person may take, milliseconds; as long as the account lets them. 0: no one is waited for. The run is taken back then. */
  readonly approvalMs?: number | undefined
  /** Told once a person is awaited. */
  readonly onAwaiting?: (awaiting: Awaiting) => void
  /** Told once a run that awaits a person is taken back: its time here was over, or `signal` ended the wait, or something failed. */
  readonly onGivenUp?: (given: GivenUp) => void
  /** Ends the wait; nothing has run then, and nobody can approve it any more. */
  readonly signal?: AbortSignal
}

/** What the gateway permitted. */
export interface Permit {
  readonly runId: string
  readonly versionId: string | null
  readonly lensHash: string | null
  readonly workflowId: string | null
  readonly workflowHash: string | null
  readonly runnerId: string | null
  /** Whether that runner was bound to this device: else the run ends at `device_verified`. Null without one, or where it is not known. */
  readonly isRunnerBound: boolean | null
  readonly contenderId: string | null
  /** Why the policy allows it. */
  readonly reason: string
  /** Tools that it may not use; `mcp/*` denies all that begin with `mcp/`. */
  readonly deniedTools: readonly string[]
  /** How long it held yet when it came, milliseconds. */
  readonly validMs: number
  /** The gateway's clock less ours, milliseconds; null where that is not known. */
  readonly clockOffsetMs: number | null
}

/** What was asked for, as it is attested. */
export interface Asked {
  readonly command_hash: string
  readonly inputs: readonly RunFile[]
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)

const permitOf = (answer: Answer): Permit => ({
  runId: String(answer.run_id),
  versionId: textOf(answer.version_id),
  lensHash: textOf(answer.lens_hash),
  workflowId: textOf(answer.workflow_id),
  workflowHash: textOf(answer.workflow_hash),
  runnerId: textOf(answer.runner_id),
  isRunnerBound: typeof answer.runner_bound === 'boolean' ? answer.runner_bound : null,
  contenderId: textOf(answer.contender_id),
  reason: String(answer.reason),
  deniedTools: (answer.denied_tools as string[] | undefined) ?? [],
  validMs: Number(answer.valid_ms),
  clockOffsetMs: typeof answer.clock_offset_ms === 'number' ? answer.clock_offset_ms : null,
})

/** The members that have a value. */
const given = (members: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(Object.entries(members).filter((entry): entry is [string, string] => entry[1] !== undefined))

/** @throws CodedError `input_unreadable` */
const askedOf = async ({ command, inputs = [] }: PermitRequest): Promise<Asked> => ({
  command_hash: hashCommand(command),
  inputs: await Promise.all(inputs.map((input) => (typeof input === 'string' ? hashFile(input) : input))),
})

const expiryOf = async (connection: Connection, run_id: string): Promise<number | null> => {
  try {
    const { approval_expires_at: at } = await connection.request('run.heartbeat', { run_id })
    return typeof at === 'number' ? at : null
  } catch (error) {
    // It says when for people alone; whoever waits learns the rest below.
    if (error instanceof CodedError) return null
    throw error
  }
}

/** Takes a run back that nobody waits for any more. @returns whether the daemon has kept that */
const giveUp = async (connection: Connection, runId: string): Promise<boolean> => {
  const asked = connection.request('run.withdraw', { run_id: runId }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof CodedError) return false
      throw error
    },
  )
  return Promise.race([asked, sleep(giveUpMs, false, { ref: false })])
}

/** Rejects with the signal's reason once it aborts; never where there is none. */
const endOf = (signal: AbortSignal | undefined): Promise<never> =>
  new Promise((_, reject) => {
    const end = (): void => reject(signal?.reason)
    if (signal?.aborted) end()
    else signal?.addEventListener('abort', end, { once: true })
  })

/** The permit of a run that awaits a person; a daemon that restarts meanwhile is asked again. */
const awaitAnswer = async (connection: Connection, runId: string, request: PermitRequest): Promise<Answer> => {
  const { approvalMs = limits.approvalMaxSeconds * 1000, onAwaiting = () => {}, signal } = request
  onAwaiting({ runId, expiresAt: await expiryOf(connection, runId) })
  const end = performance.now() + approvalMs
  const ask = () => {
    const left = Math.max(0, Math.round(end - performance.now()))
    return connection.request('run.approval', { run_id: runId, approval_timeout_ms: left })
  }
  return persist(ask, { awayMs: restartMs, signal })
}

/** The same; a run that is not waited for to its end is taken back. */
const awaitApproval = async (connection: Connection, awaited: RunRefused, request: PermitRequest): Promise<Answer> => {
  const { runId } = awaited
  const { signal, approvalMs, onGivenUp = () => {} } = request
  try {
    if (approvalMs === 0) throw awaited
    return await Promise.race([awaitAnswer(connection, runId, request), endOf(signal)])
  } catch (error) {
    const isOver = error instanceof CodedError && !signal?.aborted && over.includes(error.code)
    if (!isOver) onGivenUp({ runId, isKept: await giveUp(connection, runId) })
    throw error
  }
}

/** What is thrown of a run that awaits a person. */
const isAwaited = (error: unknown): error is RunRefused =>
  error instanceof RunRefused && error.code === 'approval_required'

/**
 * Asks for a run.
 * @param connection of its own: who closes it is heard by the daemon, which then waits for nobody
 * @throws CodedError `policy_denied`, `workspace_paused`, `approval_required`, `approval_denied`, `approval_expired`,
 * `run_withdrawn`, `input_unreadable`, the daemon's and the gateway's codes
 */
export const askPermit = async (
  connection: Connection,
  request: PermitRequest,
): Promise<{ permit: Permit; asked: Asked }> => {
  const { label, runner: runner_id, contender: contender_id, submission: submission_id, version: version_id } = request
  const { timeoutMs: timeout_ms = permitMs, signal } = request
  const asked = await askedOf(request)
  const run = { ...asked, ...given({ label, runner_id, contender_id, submission_id, version_id }) }
  signal?.throwIfAborted()
  signal?.addEventListener('abort', connection.close, { once: true })
  const first = connection.request('run.permit', { run, timeout_ms }).finally(() => {
    signal?.removeEventListener('abort', connection.close)
  })
  try {
    return { asked, permit: permitOf(await first) }
  } catch (error) {
    signal?.throwIfAborted()
    if (!isAwaited(error)) throw error
    return { asked, permit: permitOf(await awaitApproval(connection, error, request)) }
  }
}
