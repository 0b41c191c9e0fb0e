import {
  type PolicyReason,
  type PolicyVerdict,
  policyRemedies,
  policySentences,
  type ReasonCode,
} from '@lenserfight/schemas'
import type { PolicyAnswer } from '../owner/policy.ts'

/** What ends the obstacle that a reason names, in one line; undefined where nothing does. */
export const sayRemedy = (reason: PolicyReason): string | undefined => {
  const remedy = policyRemedies[reason]
  return remedy && (remedy.command === null ? remedy.sentence : `${remedy.sentence} \`${remedy.command}\`.`)
}

/** The code that a run is refused with for a verdict; undefined where it goes on. */
export const codeOfVerdict: Record<PolicyVerdict, ReasonCode | undefined> = {
  allow: undefined,
  deny: 'policy_denied',
  pause: 'workspace_paused',
  require_approval: 'approval_required',
}

/** A verdict in one line. */
export const sayVerdict = ({ verdict, reason }: PolicyAnswer): string =>
  `${verdict.replace('_', ' ')}: ${policySentences[reason]} (${reason})`
