import { CodedError, isReasonCode, type ReasonCode } from '@lenserfight/schemas'

/** What a request came to, as the database's functions say it and as the answer carries it. */
export type Outcome =
  | { readonly ok: true; readonly result: Record<string, unknown> }
  | { readonly ok: false; readonly code: ReasonCode; readonly detail?: string; readonly retry_after?: number }

export const refused = (code: ReasonCode, detail?: string): Outcome & { readonly ok: false } => ({
  ok: false,
  code,
  ...(detail === undefined ? {} : { detail }),
})

/**
 * Reads what a function of the database returned.
 * @throws CodedError `internal_error` for what is no outcome: a code is never passed on unread
 */
export const readOutcome = (value: unknown): Outcome => {
  const { ok, code, detail, result, retry_after } = (value ?? {}) as Record<string, unknown>
  if (ok === true && typeof result === 'object' && result !== null)
    return { ok, result: result as Record<string, unknown> }
  if (ok === false && isReasonCode(code)) {
    const outcome = refused(code, typeof detail === 'string' ? detail : undefined)
    return typeof retry_after === 'number' ? { ...outcome, retry_after } : outcome
  }
  throw new CodedError('internal_error', 'a function returned no outcome')
}
