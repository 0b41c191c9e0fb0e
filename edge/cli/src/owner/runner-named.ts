import { CodedError, type ReasonCode, Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Context } from '../context.ts'

/** Codes of whoever is not signed in, or no more. */
const unsigned: readonly ReasonCode[] = ['not_signed_in', 'unknown_session', 'session_expired']

/**
 * The id of the runner that is meant: an id as it stands, and nothing is asked; else what its owner's sign-in finds by that name,
 * or by a unique beginning of an id.
 * @throws CodedError `unknown_runner`; `usage` where several are meant; `not_signed_in` and its like; those of a request
 */
export const runnerNamed = async (context: Context, given: string): Promise<string> => {
  if (Check(Uuid, given)) return given
  const [{ asOwner }, { findRunner }] = await Promise.all([import('./connect.ts'), import('./runners.ts')])
  try {
    return await asOwner(context, async (owner) => (await findRunner(owner, given)).runner_id)
  } catch (error) {
    if (!(error instanceof CodedError) || !unsigned.includes(error.code)) throw error
    const detail = 'a runner is found by its name through its owner’s sign-in; without one, give its id'
    throw new CodedError(error.code, detail, { cause: error })
  }
}
