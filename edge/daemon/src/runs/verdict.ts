import { isReasonCode, type PolicyVerdict, policyVerdicts, type ReasonCode } from '@lenserfight/schemas'

/** What the policy said of a run: with its permit, or when it was asked anew. */
export interface Verdict {
  readonly verdict: PolicyVerdict
  readonly reason: string
  /** Tools that the run may not use; `mcp/*` denies all that begin with `mcp/`. */
  readonly deniedTools: readonly string[]
  /** Milliseconds since 1970 by the gateway's clock; null where the run is not allowed. For people: this machine counts itself. */
  readonly coveredUntil: number | null
  /** Milliseconds since 1970 by the gateway's clock; null where no person is awaited. */
  readonly approvalExpiresAt: number | null
}

/** What holds of a run that this machine took back, whatever the gateway said before. */
export const withdrawnWord: Verdict = {
  verdict: 'deny',
  reason: 'withdrawn',
  deniedTools: [],
  coveredUntil: null,
  approvalExpiresAt: null,
}

/** That, or the code with which the gateway would not judge it. */
export type Word = Verdict | { readonly code: ReasonCode }

const timeOf = (value: unknown): number | null => (typeof value === 'number' ? value : null)

/** Reads the gateway’s word on a run; undefined for what is none, which counts as not answered. */
export const readWord = (said: Readonly<Record<string, unknown>>): Word | undefined => {
  const { code, verdict, reason, denied_tools: denied } = said
  if (typeof code === 'string' && isReasonCode(code)) return { code }
  if (!policyVerdicts.includes(verdict as PolicyVerdict)) return undefined
  return {
    verdict: verdict as PolicyVerdict,
    reason: String(reason),
    deniedTools: Array.isArray(denied) ? denied.map(String) : [],
    coveredUntil: timeOf(said.covered_until),
    approvalExpiresAt: timeOf(said.approval_expires_at),
  }
}

/** The pattern that denies a tool, if one does. */
export const deniedBy = (tool: string, patterns: readonly string[]): string | undefined =>
  patterns.find((pattern) => (pattern.endsWith('*') ? tool.startsWith(pattern.slice(0, -1)) : tool === pattern))

/** The code that a verdict is told as where nothing has run yet; undefined for one that lets it run. */
export const refusalOf = ({ verdict, reason }: Verdict): ReasonCode | undefined => {
  if (verdict === 'allow') return undefined
  // Without a place among those that run at once, nobody's pause is to be lifted.
  if (verdict === 'pause') return reason === 'parallel_limit' ? 'policy_denied' : 'workspace_paused'
  if (verdict === 'require_approval') return 'approval_required'
  if (reason === 'withdrawn') return 'run_withdrawn'
  return reason === 'approval_denied' || reason === 'approval_expired' ? reason : 'policy_denied'
}
