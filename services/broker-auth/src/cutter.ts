import type { KickResult } from '@lenserfight/bus'
import { describeError, InfrastructureError, type Logger, short } from '@lenserfight/runtime'
import type { Admissions, DueCut, Kicked } from './admissions.ts'
import { createRateBound } from './rate-bound.ts'

export interface CutterOptions {
  readonly admissions: Admissions
  /** @throws InfrastructureError when no answer came */
  readonly kick: (serverId: string, clientId: number) => Promise<KickResult>
  /** Whether broker and database are there; while one is not, what is due stays due. */
  readonly isOpen: () => boolean
  readonly onInfrastructure: () => void
  readonly logger: Logger
}

export interface Cutter {
  /** Looks at once: something may be due. */
  readonly look: () => void
  readonly details: () => object
  readonly stop: () => Promise<void>
}

/** Connections of one look; a look that is full is followed by another. */
const batch = 256
/** A notice may get lost: it costs this long, milliseconds. */
const lookMs = 2000
/** Notices by the thousand are no more than so many looks: milliseconds between two. */
const pauseMs = 20
const pruneMs = 10_000
const pruneBatch = 1000
const pruneBatches = 20
/** Lines a second about cut connections. */
const cutLines = 20

/** Cuts the connections that the database says are due, and forgets those that ended. Any number of replicas may. */
export const startCutter = (options: CutterOptions): Cutter => {
  const { admissions, kick, isOpen, logger } = options
  const mayLog = createRateBound(cutLines)
  const counts = { cut: 0, gone: 0, noServer: 0, unanswered: 0, pruned: 0 }
  let running: Promise<void> | undefined
  let wanted = false
  let stopped = false

  const cut = async (due: DueCut): Promise<Kicked | undefined> => {
    try {
      const result = await kick(due.server_id, Number(due.client_id))
      counts[result === 'no_server' ? 'noServer' : result] += 1
      const { kid, cause } = due
      if (result === 'cut' && mayLog())
        logger.info({ event: 'connection_cut', kid: short(kid), cause }, 'a connection was cut')
      return { due, answered: result !== 'no_server' }
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      // It stays due, and the next look has it again.
      counts.unanswered += 1
      return undefined
    }
  }
  const cutDue = async (): Promise<boolean> => {
    const due = await admissions.toCut(batch)
    const kicked = (await Promise.all(due.map(cut))).filter((one) => one !== undefined)
    if (kicked.length > 0) await admissions.noteKicked(kicked)
    return kicked.length === batch
  }
  const lookAll = async (): Promise<void> => {
    do {
      wanted = false
      try {
        while (!stopped && isOpen() && (await cutDue()));
      } catch (err) {
        if (err instanceof InfrastructureError) options.onInfrastructure()
        else logger.error({ event: 'cutting_failed', cause: describeError(err) }, 'connections could not be cut')
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    } while (wanted && !stopped)
  }
  const look = (): void => {
    wanted = true
    if (running !== undefined || stopped) return
    running = lookAll().finally(() => {
      running = undefined
    })
  }
  const prune = async (): Promise<void> => {
    try {
      for (let n = 0; n < pruneBatches && !stopped && isOpen(); n++) {
        const pruned = await admissions.prune(pruneBatch)
        counts.pruned += pruned
        if (pruned < pruneBatch) return
      }
    } catch {
      // The gate finds out whether the database is gone; what is over is pruned a little later.
    }
  }
  let pruning: Promise<void> = Promise.resolve()
  const timers = [
    setInterval(look, lookMs),
    setInterval(() => {
      pruning = pruning.then(prune)
    }, pruneMs),
  ]
  const stop = async (): Promise<void> => {
    stopped = true
    for (const timer of timers) clearInterval(timer)
    await Promise.all([running, pruning])
  }
  return { look, details: () => ({ ...counts }), stop }
}
