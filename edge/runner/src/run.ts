import { type Outcome, startStopwatch } from '@lenserfight/daemon/client'
import { CodedError, type ReasonCode, type RunFile } from '@lenserfight/schemas'
import { type Answer, type Connection, persist } from './connection.ts'
import { hashJson } from './hash.ts'
import type { Asked, Permit } from './permit.ts'

const heartbeatMs = 5_000
/** How long a daemon that restarts is waited for where what is said may be said twice. */
const restartMs = 2_000
/** Codes of a heartbeat after which the run is to end. The others pass. */
const withdrawals: readonly ReasonCode[] = [
  'permit_withdrawn',
  'renewal_limit',
  'run_ended',
  'run_not_owned',
  'unknown_run',
  'device_revoked',
  'device_blocked',
  'device_unhealthy',
]

export interface RunOptions {
  /** How often the daemon is told that the runner is alive, milliseconds; 5 s. A run unheard for 30 s is not renewed. */
  readonly heartbeatMs?: number
  /** The policy or the device's state no longer allows the run: it is to end. Also `signal` aborts. */
  readonly onWithdrawn?: (reason: CodedError) => void
  /** Its permit ended with no renewal, since daemon or gateway are away. Told once a lapse; a later renewal may cover it. */
  readonly onLapsed?: (cause: CodedError) => void
}

/** What came of a run. What is left out is not attested. Times are milliseconds since 1970 by this machine's clock. */
export interface RunEnd {
  readonly exitCode: number | null
  readonly signal?: string | null
  /** SHA-256, base64url. */
  readonly stdinHash?: string | null
  readonly stdoutHash?: string | null
  readonly outputs?: readonly RunFile[]
  /** Else when `start` returned. */
  readonly startedAt?: number
  /** Else now. */
  readonly endedAt?: number
  /** How long its result is waited for, milliseconds; 15 s. It is sent whether or not somebody waits. */
  readonly waitMs?: number
  /** Told once the daemon has kept the attestation, before its result is waited for. */
  readonly onKept?: (kept: Attested) => void
}

/** What became of an attestation, as far as it is known: `queued` is kept by the daemon and sent until it has a result. */
export interface Attested {
  readonly opId: string
  readonly state: 'done' | 'refused' | 'queued'
  readonly outcome: Outcome | null
}

/** One entry of a run's tool log. */
export interface ToolUse {
  /** From 1. */
  readonly seq: number
}

/** A run that is permitted. */
export interface Run {
  readonly permit: Permit
  /** Aborts when the run is to end; its reason is the CodedError. */
  readonly signal: AbortSignal
  /**
   * It begins to run now.
   * @throws CodedError `permit_expired`, `permit_withdrawn`, what withdrew it
   */
  readonly start: () => Promise<void>
  /**
   * Logs a tool before it is used; use it only if this returns.
   * @param name up to 128 of letters, digits and `._:/-`
   * @param args what it is called with, as JSON; its hash alone leaves this machine
   * @throws CodedError `tool_denied` (logged), `permit_expired`, `permit_withdrawn`, `run_ended`, `malformed_body`
   */
  readonly tool: (name: string, args?: unknown) => Promise<ToolUse>
  /** The attestation of what came of it, as `complete` hands it over. */
  readonly attestationOf: (end: RunEnd) => Readonly<Record<string, unknown>>
  /**
   * Attests what came of it. On return the daemon has kept it.
   * @throws CodedError `daemon_unreachable`, `malformed_body`, `state_unwritable`, `outbox_full`
   */
  readonly complete: (end: RunEnd) => Promise<Attested>
  /** Says no more of it; what was not completed is not attested. */
  readonly close: () => void
}

const attestedOf = (report: Answer): Attested => {
  const outcome = report.outcome as Outcome | null
  const state = outcome === null ? 'queued' : outcome.ok ? 'done' : 'refused'
  return { opId: String(report.op_id), state, outcome }
}

/**
 * Asks for leave to do something, which holds for as long as the answer says, counted from before it was asked for: this process may
 * have been stopped, or the machine have slept, before it read the answer (PE-2).
 * @throws CodedError `permit_expired` where it came too late, what `ask` throws
 */
const whileValid = async (ask: () => Promise<Answer>, withdrawn: AbortSignal): Promise<Answer> => {
  withdrawn.throwIfAborted()
  const since = startStopwatch()
  const answer = await ask()
  withdrawn.throwIfAborted()
  if (since() >= Number(answer.valid_ms)) throw new CodedError('permit_expired', 'the answer was read too late')
  return answer
}

/** Tells the daemon again and again that the runner is alive, and what it hears of the run. */
const beat = (connection: Connection, permit: Permit, options: RunOptions, withdraw: (reason: CodedError) => void) => {
  const { heartbeatMs: everyMs = heartbeatMs, onLapsed = () => {} } = options
  let validUntil = performance.now() + permit.validMs
  let isLapsed = false
  let timer: NodeJS.Timeout | undefined
  let isOver = false

  const hear = ({ verdict, reason, valid_ms }: Answer): void => {
    if (verdict === 'allow') {
      validUntil = performance.now() + Number(valid_ms)
      isLapsed = false
    } else {
      withdraw(new CodedError('permit_withdrawn', String(reason)))
    }
  }
  const fail = (error: unknown): void => {
    if (!(error instanceof CodedError)) throw error
    if (withdrawals.includes(error.code)) {
      withdraw(error)
    } else if (!isLapsed && performance.now() >= validUntil) {
      isLapsed = true
      onLapsed(error)
    }
  }
  const beatOnce = async (): Promise<void> => {
    const answer = connection.request('run.heartbeat', { run_id: permit.runId })
    await answer.then(
      (said) => isOver || hear(said),
      (error: unknown) => isOver || fail(error),
    )
  }
  const next = (): void => {
    timer = setTimeout(async () => {
      await beatOnce()
      if (!isOver) next()
    }, everyMs)
    timer.unref()
  }
  next()
  return {
    now: beatOnce,
    end: () => {
      isOver = true
      clearTimeout(timer)
    },
  }
}

/** @param connection of its own */
export const createRun = (
  connection: Connection,
  permitted: { permit: Permit; asked: Asked },
  options: RunOptions,
): Run => {
  const { permit, asked } = permitted
  const { runId: run_id } = permit
  const withdrawn = new AbortController()
  let startedAt: number | undefined

  const heartbeat = beat(connection, permit, options, (reason) => {
    heartbeat.end()
    withdrawn.abort(reason)
    options.onWithdrawn?.(reason)
  })
  const begin = async (): Promise<void> => {
    await whileValid(() => connection.request('run.start', { run_id }), withdrawn.signal)
    startedAt = Date.now()
  }
  const attestationOf: Run['attestationOf'] = (end) => {
    const endedAt = end.endedAt ?? Date.now()
    return {
      run_id,
      ...asked,
      outputs: end.outputs ?? [],
      stdin_hash: end.stdinHash ?? null,
      stdout_hash: end.stdoutHash ?? null,
      lens_hash: permit.lensHash,
      workflow_hash: permit.workflowHash,
      started_at: end.startedAt ?? startedAt ?? endedAt,
      ended_at: endedAt,
      exit_code: end.exitCode,
      signal: end.signal ?? null,
    }
  }
  const close = (): void => {
    heartbeat.end()
    connection.close()
  }

  return {
    permit,
    signal: withdrawn.signal,
    start: async () => {
      try {
        await begin()
      } catch (error) {
        if (!(error instanceof CodedError) || error.code !== 'permit_expired') throw error
        // A daemon that was started again knows no permit until it is asked for one.
        await heartbeat.now()
        await begin()
      }
    },
    tool: async (tool, args = null) => {
      const use = { run_id, tool, arguments_hash: hashJson(args) }
      const { seq } = await whileValid(() => connection.request('run.tool', use), withdrawn.signal)
      return { seq: Number(seq) }
    },
    attestationOf,
    complete: async (end) => {
      const attestation = attestationOf(end)
      const kept = attestedOf(
        await persist(() => connection.request('run.complete', { attestation, timeout_ms: 0 }), { awayMs: restartMs }),
      )
      heartbeat.end()
      end.onKept?.(kept)
      const { waitMs = 15_000 } = end
      if (waitMs === 0 || kept.state !== 'queued') return kept
      try {
        return attestedOf(await connection.request('operation.wait', { op_id: kept.opId, timeout_ms: waitMs }))
      } catch (error) {
        // It is kept, whatever became of the daemon since.
        if (error instanceof CodedError) return kept
        throw error
      }
    },
    close,
  }
}
