import { CodedError, type ReasonCode, reasonOf } from '@lenserfight/schemas'
import type { CheckName } from './names.ts'

/** What was found out, for programs: without secrets. */
export type CheckData = Readonly<Record<string, unknown>>

/** A question that was answered: all is well, with what people may want to know. */
export interface Passed {
  readonly ok: true
  /** One line for people. */
  readonly detail: string
  /** What works and should not stay so. */
  readonly warning?: string
  readonly data?: CheckData
}

/** A question that was answered: something is wrong. */
export interface Failed {
  readonly ok: false
  readonly code: ReasonCode
  /** What is wrong in this case, without secrets; the code says it in general. */
  readonly detail?: string | undefined
  /** What to do; the code's own sentence where absent. */
  readonly fix?: string
  readonly data?: CheckData
}
export type Verdict = Passed | Failed

/** What is told of one check. */
export interface CheckResult {
  readonly check: CheckName
  readonly ok: boolean
  /** Registered, and null where all is well (DG-2). */
  readonly code: ReasonCode | null
  readonly detail: string
  readonly fix: string | null
  readonly warning: string | null
  /** How long it took, milliseconds. */
  readonly ms: number
  readonly data?: CheckData
}

/** A coded failure as a verdict; what is no CodedError is thrown on. */
export const asFailed = (error: unknown): Failed => {
  if (!(error instanceof CodedError)) throw error
  return { ok: false, code: error.code, detail: error.detail }
}

/** @throws CodedError what a verdict says is wrong: what must hold before a daemon starts */
export const demand = (verdict: Verdict): Passed => {
  if (verdict.ok) return verdict
  throw new CodedError(verdict.code, verdict.detail)
}

/** A verdict as it is told. */
export const asResult = (check: CheckName, verdict: Verdict, ms: number): CheckResult => {
  const shared = { check, ms, ...(verdict.data === undefined ? {} : { data: verdict.data }) }
  if (verdict.ok) {
    const { detail, warning = null } = verdict
    return { ...shared, ok: true, code: null, detail, fix: null, warning }
  }
  const { code, detail, fix } = verdict
  const { message } = reasonOf(code)
  return { ...shared, ok: false, code, detail: detail ?? message, fix: fix ?? message, warning: null }
}
