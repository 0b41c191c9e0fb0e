import { createRunBook, keepForLater } from '@lenserfight/daemon/client'
import { type Attested, CodedError, type Run, type RunEnd } from '@lenserfight/runner'
import type { Context } from '../context.ts'
import { enrolledHere } from '../daemon.ts'

/**
 * Attests a run: through the daemon, or, where it is gone, into the outbox that the next one empties.
 * @throws CodedError where it could not be kept at all
 */
export const attest = async (context: Context, run: Run, end: RunEnd): Promise<Attested> => {
  try {
    return await run.complete(end)
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'daemon_unreachable') throw error
    const store = context.store()
    const identity = enrolledHere(context)
    const opId = createRunBook(store).end(run.attestationOf(end), (body) =>
      keepForLater(store, identity, { kind: 'attestation', body }),
    )
    return { opId, state: 'queued', outcome: null }
  }
}
