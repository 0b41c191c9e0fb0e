import { CodedError, Explanation } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Owner } from './connect.ts'

/** @throws CodedError `internal_error` where the answer explains nothing */
export const explanationOf = (answer: unknown): Explanation => {
  if (!Check(Explanation, answer)) throw new CodedError('internal_error', 'the answer explains nothing')
  return answer
}

/** Why a run, a submission or a device of the account has its level. @throws CodedError `nothing_to_explain` */
export const askWhy = async (owner: Owner, id: string): Promise<Explanation> =>
  explanationOf(await owner.request('explain', { id }))
