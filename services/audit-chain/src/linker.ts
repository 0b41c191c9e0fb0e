import { setTimeout as sleep } from 'node:timers/promises'
import { codeOf, type Logger, type StateHolder } from '@lenserfight/runtime'
import { backOffMs } from './back-off.ts'

export interface LinkerOptions {
  /** Links up to so many records and returns how many: `audit.fn_chain_link`. */
  readonly link: (limit: number) => Promise<number>
  readonly state: StateHolder
  readonly logger: Logger
  readonly batch: number
  readonly pollMs: number
}

export interface Linker {
  /** Finishes the batch in flight. */
  readonly stop: () => Promise<void>
  readonly figures: () => { linked: number; failures: number }
}

/**
 * Links what is pending, batch by batch, until it is stopped: without a rest while batches come back full, else after
 * `pollMs`. `consuming` only after linking worked; whatever fails, it is `holding` and tries again, since no record may
 * be passed over and none is lost by waiting.
 */
export const startLinker = ({ link, state, logger, batch, pollMs }: LinkerOptions): Linker => {
  const stopping = new AbortController()
  let linked = 0
  let failures = 0
  let failuresInRow = 0

  const linkOnce = async (): Promise<number> => {
    try {
      const count = await link(batch)
      linked += count
      failuresInRow = 0
      state.set('consuming')
      if (count > 0) logger.debug({ event: 'linked', count }, 'records were linked')
      return count < batch ? pollMs : 0
    } catch (err) {
      failures += 1
      failuresInRow += 1
      logger.error({ event: 'link_failed', code: codeOf(err), err }, 'linking failed; it is tried again')
      state.set('holding', codeOf(err))
      return backOffMs(failuresInRow)
    }
  }

  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const restMs = await linkOnce()
      if (restMs > 0) await sleep(restMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const ended = run()
  return {
    stop: () => {
      stopping.abort()
      return ended
    },
    figures: () => ({ linked, failures }),
  }
}
