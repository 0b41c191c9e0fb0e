import { performance } from 'node:perf_hooks'
import { CodedError, type ReasonCode } from '@lenserfight/schemas'
import type { CheckName } from './names.ts'
import { asFailed, asResult, type CheckResult, type Failed, type Verdict } from './types.ts'

/** One question, with whom to ask. */
export interface Check {
  readonly name: CheckName
  /** What it means that nobody answered in time. */
  readonly late: ReasonCode
  /** May throw a CodedError instead of saying what is wrong. The signal aborts when time is up. */
  readonly ask: (signal: AbortSignal) => Promise<Verdict> | Verdict
}

const lateAfter = (code: ReasonCode, ms: number, signal: AbortSignal): Promise<Failed> =>
  new Promise((resolve) => {
    const detail = `no answer within ${ms} ms`
    signal.addEventListener('abort', () => resolve({ ok: false, code, detail }), { once: true })
  })

const failedBy = (error: unknown): Failed => {
  if (error instanceof CodedError) return asFailed(error)
  // A diagnosis that dies of what it finds helps nobody; what went wrong is named by its kind alone.
  const detail = error instanceof Error ? error.name : 'unknown'
  return { ok: false, code: 'internal_error', detail, fix: 'lf itself failed, not the gateway: please report it.' }
}

const runCheck = async ({ name, late, ask }: Check, deadlineMs: number): Promise<CheckResult> => {
  const began = performance.now()
  const ending = new AbortController()
  const timer = setTimeout(() => ending.abort(), deadlineMs)
  const asked = (async () => ask(ending.signal))().catch(failedBy)
  const verdict = await Promise.race([asked, lateAfter(late, deadlineMs, ending.signal)])
  clearTimeout(timer)
  return asResult(name, verdict, Math.round(performance.now() - began))
}

/**
 * Asks all questions at once, each with the same deadline in milliseconds, and answers in the order of the questions.
 * Nothing is thrown: what fails is a result.
 */
export const runChecks = (checks: readonly Check[], deadlineMs: number): Promise<CheckResult[]> =>
  Promise.all(checks.map((check) => runCheck(check, deadlineMs)))
