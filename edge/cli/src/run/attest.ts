import { setTimeout as sleep } from 'node:timers/promises'
import { createRunBook, type DaemonClient, keepForLater, type Outcome } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'
import type { Context } from '../context.ts'
import { enrolledHere, openDaemon } from '../daemon.ts'

/** What became of an attestation, as far as it is known. */
export interface Attested {
  readonly opId: string
  readonly state: 'done' | 'refused' | 'queued'
  readonly outcome: Outcome | null
}

const reconnectMs = 250
const reconnectTries = 8

const asAttested = (report: Readonly<Record<string, unknown>>): Attested => {
  const outcome = report.outcome as Outcome | null
  const state = outcome === null ? 'queued' : outcome.ok ? 'done' : 'refused'
  return { opId: String(report.op_id), state, outcome }
}

/** A daemon that restarts meanwhile is soon there again. */
const reopen = async (context: Context): Promise<DaemonClient> => {
  for (let tries = 1; ; tries += 1) {
    try {
      return await openDaemon(context)
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'daemon_unreachable' || tries === reconnectTries) throw error
      await sleep(reconnectMs)
    }
  }
}

/** Hands an attestation to the daemon, which keeps it before it answers; then waits for its result. */
const viaDaemon = async (daemon: DaemonClient, attestation: object, waitMs: number): Promise<Attested> => {
  const params = { attestation: attestation as Record<string, unknown>, timeout_ms: 0 }
  const kept = asAttested(await daemon.request('run.complete', params))
  if (waitMs === 0 || kept.state !== 'queued') return kept
  try {
    return asAttested(await daemon.request('operation.wait', { op_id: kept.opId, timeout_ms: waitMs }))
  } catch (error) {
    // It is kept, whatever became of the daemon since.
    if (error instanceof CodedError) return kept
    throw error
  }
}

/**
 * Attests a run: through the daemon, or, where it is gone, into the outbox that the next one empties.
 * @throws CodedError where it could not be kept at all
 */
export const attest = async (
  context: Context,
  attestation: Readonly<Record<string, unknown>>,
  waitMs: number,
): Promise<Attested> => {
  let daemon: DaemonClient | undefined
  try {
    daemon = await reopen(context)
    return await viaDaemon(daemon, attestation, waitMs)
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'daemon_unreachable') throw error
    const store = context.store()
    const identity = enrolledHere(context)
    const opId = createRunBook(store).end(attestation, (body) =>
      keepForLater(store, identity, { kind: 'attestation', body }),
    )
    return { opId, state: 'queued', outcome: null }
  } finally {
    daemon?.close()
  }
}
