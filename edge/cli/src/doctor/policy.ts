import type { DeviceStanding, Verdict } from '@lenserfight/daemon/checks'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { asOwner } from '../owner/connect.ts'
import { askPolicy, type PolicyAnswer } from '../owner/policy.ts'
import { codeOfVerdict, sayRemedy, sayVerdict } from '../policy/words.ts'
import type { Heard } from './gateway.ts'

/** The policy's answer to a run of just now. Pure. */
export const judgePolicy = (answer: PolicyAnswer): Verdict => {
  const code = codeOfVerdict[answer.verdict]
  const fix = sayRemedy(answer.reason)
  const detail = sayVerdict(answer)
  // Runs do go on where somebody is there to let them.
  if (code === undefined) return { ok: true, detail, data: { ...answer } }
  if (code === 'approval_required') return { ok: true, detail, warning: fix ?? detail, data: { ...answer } }
  return { ok: false, code, detail, ...(fix === undefined ? {} : { fix }), data: { ...answer } }
}

/** What a device is told of its account's policy, which is not all of it. Pure. */
export const judgePause = ({ paused, code }: DeviceStanding): Verdict => {
  if (paused || code === 'workspace_paused') return judgePolicy({ verdict: 'pause', reason: 'runner_paused' })
  return { ok: true, detail: 'not paused; what else the policy says is told to who is signed in (`lf login`)' }
}

/** Whoever is not signed in, or no longer, is refused with one of these. */
const isOfSession = ({ code }: CodedError): boolean =>
  code === 'not_signed_in' || code === 'session_expired' || code === 'unknown_session' || code === 'connection_refused'

/**
 * What the account’s policy says of a run, as whoever is signed in; else whether it is paused, as this device knows.
 * @throws CodedError as `connectOwner` does, where this device knows nothing either
 */
export const checkPolicy = async (context: Context, hear: () => Promise<Heard>): Promise<Verdict> => {
  try {
    return judgePolicy(await asOwner(context, (owner) => askPolicy(owner)))
  } catch (error) {
    if (!(error instanceof CodedError) || !isOfSession(error)) throw error
    const { standing } = await hear()
    if (standing === undefined) throw error
    return judgePause(standing)
  }
}
