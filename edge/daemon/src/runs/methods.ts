import { CodedError, type KindName, type ReasonCode, Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Heartbeat } from '../gateway/heartbeat.ts'
import type { Operation } from '../outbox/operations.ts'
import { asReport } from '../outbox/report.ts'
import type { Outbox } from '../outbox/types.ts'
import type { Presence } from '../presence.ts'
import type { Methods } from '../socket/server.ts'
import type { Awaited } from './awaited.ts'
import { type BookedRun, type Permitted, type RunBook, readPermitted } from './book.ts'
import { RunRefused } from './refused.ts'
import type { Live, Runs } from './runs.ts'
import { type Stopwatch, startStopwatch } from './stopwatch.ts'
import { deniedBy, readWord, refusalOf } from './verdict.ts'

/** Between two looks at whether the device's state still allows what somebody waits for. */
const lookMs = 500
/** How long a verdict is asked for where none holds and nobody says how long. */
const askMs = 3_000

export interface RunMethodsOptions {
  readonly outbox: Outbox
  readonly presence: Presence
  readonly heartbeat: Pick<Heartbeat, 'beatFor'>
  readonly runs: Runs
  readonly book: RunBook
  readonly awaited: Awaited
  readonly enqueue: (kind: KindName, body: Readonly<Record<string, unknown>>) => Operation
  /** The code with which the device's state refuses a kind. */
  readonly refusal: (kind: KindName) => ReasonCode | undefined
  /** Throws it, if what the gateway says of the device now confirms it. */
  readonly checkState: (kind: KindName) => Promise<void>
}

type RunMethods = Pick<
  Methods,
  'run.permit' | 'run.approval' | 'run.withdraw' | 'run.start' | 'run.tool' | 'run.heartbeat' | 'run.complete'
>

/** How long a verdict holds yet, whole milliseconds: rounded down, since it is a bound. */
const validOf = ({ validMs }: Live): number => Math.floor(validMs)
const asAnswer = (live: Live) => ({
  verdict: live.verdict,
  reason: live.reason,
  valid_ms: validOf(live),
  covered_until: live.coveredUntil,
  denied_tools: live.deniedTools,
  approval_expires_at: live.approvalExpiresAt,
})

/** @throws CodedError the code that a verdict is told as where nothing has run yet */
const checkBefore = (runId: string, live: Live): void => {
  const code = refusalOf(live)
  if (code === undefined) return
  const detail = code === 'approval_required' ? runId : code === live.reason ? undefined : live.reason
  throw new RunRefused(code, { runId, reason: live.reason }, detail)
}
/** @throws CodedError `run_ended`, `run_withdrawn` */
const checkOpen = (run: BookedRun | undefined): void => {
  if (run?.isEnded) throw new CodedError('run_ended')
  if (run?.isWithdrawn) throw new CodedError('run_withdrawn')
}
/** @throws CodedError the code that a verdict is told as where it is to run, or runs already */
const checkDuring = (runId: string, live: Live): void => {
  if (live.verdict === 'require_approval') throw new CodedError('approval_required', runId)
  if (live.verdict !== 'allow') throw new CodedError('permit_withdrawn', live.reason)
}

/** The methods by which a runner asks for a run, runs and attests (`edge/runner` is their client). */
export const createRunMethods = (options: RunMethodsOptions): RunMethods => {
  const { outbox, presence, heartbeat, runs, book, awaited, enqueue, refusal, checkState } = options

  /** RH-3: refuses at once what the device's state refuses. */
  const refuseNow = (kind: KindName): void => {
    const code = refusal(kind)
    if (code !== undefined) throw new CodedError(code)
  }
  const whyUnanswered = (lastCode?: string | null): ReasonCode =>
    presence.obstacle() ??
    (lastCode as ReasonCode | null | undefined) ??
    (presence.connection() === 'connected' ? 'answer_timeout' : 'gateway_unreachable')

  /** Waits for the outcome for as long as the state does not refuse the kind: what was cut meanwhile gets no answer any more. */
  const waitWhileAllowed = async (opId: string, timeoutMs: number, signal: AbortSignal): Promise<Operation> => {
    for (const end = performance.now() + timeoutMs; ; ) {
      const left = end - performance.now()
      const operation = (await outbox.wait(opId, Math.min(lookMs, Math.max(0, left)), signal)) as Operation
      if (operation.outcome !== null || left <= lookMs || signal.aborted || refusal(operation.kind)) return operation
    }
  }
  /**
   * Does what waits for a person until the device's state refuses runs.
   * @throws CodedError the code with which it does
   */
  const whileAllowed = async <T>(signal: AbortSignal, wait: (either: AbortSignal) => Promise<T>): Promise<T> => {
    const refused = new AbortController()
    const timer = setInterval(() => refusal('run_start') && refused.abort(), lookMs)
    try {
      return await wait(AbortSignal.any([signal, refused.signal]))
    } finally {
      clearInterval(timer)
      if (refused.signal.aborted) refuseNow('run_start')
    }
  }
  const keep = (result: Readonly<Record<string, unknown>>, since: Stopwatch): Permitted => {
    const permit = readPermitted(result)
    const word = readWord(result)
    if (word === undefined) throw new CodedError('internal_error', 'a permit without a verdict')
    const isAwaiting = 'verdict' in word && word.verdict === 'require_approval'
    book.add(permit, presence.clockOffsetMs() ?? 0, isAwaiting)
    runs.hear(permit.run_id, permit.runner_id)
    runs.take(permit.run_id, word, since)
    return permit
  }
  /** What `run_start` results in. The stopwatch counts from before it was first sent. */
  const startRun = async (run: Readonly<Record<string, unknown>>, timeoutMs: number, signal: AbortSignal) => {
    const since = startStopwatch()
    const { opId } = enqueue('run_start', run)
    const leave = awaited.expect(opId)
    try {
      const operation = await waitWhileAllowed(opId, timeoutMs, signal)
      const { outcome } = operation
      if (outcome?.ok) return { permit: keep(outcome.result ?? {}, since), result: outcome.result ?? {} }
      if (outcome !== null) throw new CodedError(outcome.code ?? 'internal_error', outcome.detail)
      // Nobody runs anything on a permit that comes too late; what may have reached the gateway is asked about until that is taken back.
      outbox.abandon(opId)
      throw new CodedError(whyUnanswered(operation.lastCode))
    } finally {
      leave()
    }
  }
  /** The permit with what holds of it now, once nothing but a person is awaited, and for them as long as the caller wants. */
  const concludePermit = async (
    permit: Readonly<Record<string, unknown>> & { readonly run_id: string },
    wanted: { timeoutMs: number; approvalMs: number; signal: AbortSignal },
  ) => {
    const leave = awaited.hold(permit.run_id)
    try {
      return await awaitPermit(permit, wanted)
    } finally {
      leave()
    }
  }
  const awaitPermit = async (
    permit: Readonly<Record<string, unknown>> & { readonly run_id: string },
    { timeoutMs, approvalMs, signal }: { timeoutMs: number; approvalMs: number; signal: AbortSignal },
  ) => {
    const { run_id } = permit
    // What was long under way may not hold any more when it comes.
    let live = await runs.ask(run_id, timeoutMs, signal)
    if (live?.verdict === 'require_approval' && approvalMs > 0)
      live = await whileAllowed(signal, (either) => runs.awaitApproval(run_id, approvalMs, either))
    if (live === undefined) throw new CodedError('permit_expired', whyUnanswered())
    // It was refused, and nothing has run: it takes nobody's place.
    if (live.verdict === 'deny' || live.verdict === 'pause') runs.forget(run_id)
    // One that is paused awaits its person still; one that is allowed may yet be left by its runner, until it starts.
    if (live.verdict === 'deny') awaited.settle(run_id)
    checkBefore(run_id, live)
    return { ...permit, ...asAnswer(live), clock_offset_ms: presence.clockOffsetMs() ?? null }
  }
  /** What holds of a run that goes on; asked for where nothing does, as after a restart of this daemon. */
  const current = async (runId: string, timeoutMs: number, signal: AbortSignal): Promise<Live> => {
    const booked = book.find(runId)
    checkOpen(booked)
    runs.hear(runId, booked?.permit.runner_id ?? null)
    const leave = awaited.hold(runId)
    const live = await runs.ask(runId, timeoutMs, signal).finally(leave)
    if (live === undefined) throw new CodedError('permit_expired', whyUnanswered())
    return live
  }
  return {
    'run.permit': async ({ run, timeout_ms, approval_timeout_ms: approvalMs = 0 }, signal) => {
      await checkState('run_start')
      const release = runs.reserve()
      try {
        const began = performance.now()
        // One that is none would have the whole heartbeat refused; its run is refused below.
        if (Check(Uuid, run.runner_id)) {
          runs.hearRunner(run.runner_id)
          heartbeat.beatFor(run.runner_id)
        }
        const { permit, result } = await startRun(run, timeout_ms, signal)
        release()
        const { run_id } = permit
        const timeoutMs = Math.max(0, timeout_ms - (performance.now() - began))
        return await concludePermit({ ...result, run_id }, { timeoutMs, approvalMs, signal })
      } finally {
        release()
      }
    },
    'run.approval': async ({ run_id, approval_timeout_ms: approvalMs }, signal) => {
      await checkState('run_start')
      const booked = book.find(run_id)
      if (booked === undefined) throw new CodedError('unknown_run')
      checkOpen(booked)
      runs.hear(run_id, booked.permit.runner_id)
      return concludePermit({ ...booked.permit }, { timeoutMs: askMs, approvalMs, signal })
    },
    'run.withdraw': async ({ run_id, timeout_ms = 0 }, signal) => {
      const { opId } = awaited.withdraw(run_id)
      return asReport((await outbox.wait(opId, timeout_ms, signal)) as Operation)
    },
    'run.start': async ({ run_id }) => {
      refuseNow('run_start')
      checkOpen(book.find(run_id))
      const live = runs.look(run_id)
      if (live === undefined) throw new CodedError('permit_expired')
      checkDuring(run_id, live)
      awaited.settle(run_id)
      runs.hear(run_id, book.find(run_id)?.permit.runner_id ?? null)
      return { run_id, valid_ms: validOf(live) }
    },
    'run.tool': async ({ run_id, tool, arguments_hash, timeout_ms = askMs }, signal) => {
      refuseNow('tool_invocation')
      if (book.find(run_id) === undefined) throw new CodedError('unknown_run')
      const live = await current(run_id, timeout_ms, signal)
      checkDuring(run_id, live)
      awaited.settle(run_id)
      const seq = book.addTool(run_id, (entry) => {
        enqueue('tool_invocation', { run_id, seq: entry, tool, arguments_hash })
      })
      const pattern = deniedBy(tool, live.deniedTools)
      if (pattern !== undefined) throw new CodedError('tool_denied', pattern)
      return { run_id, seq, verdict: 'allow', valid_ms: validOf(live) }
    },
    'run.heartbeat': async ({ run_id, timeout_ms = askMs }, signal) => {
      refuseNow('run_renew')
      const live = await current(run_id, timeout_ms, signal)
      return { run_id, ...asAnswer(live) }
    },
    'run.complete': async ({ attestation, timeout_ms }, signal) => {
      const { opId } = book.end(attestation, (whole) => enqueue('attestation', whole), presence.clockOffsetMs())
      runs.forget(String(attestation.run_id))
      return asReport((await outbox.wait(opId, timeout_ms, signal)) as Operation)
    },
  }
}
