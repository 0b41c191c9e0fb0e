import type { Logger } from '@lenserfight/runtime'
import type { ClaimStore } from './commit.ts'

const everyMs = 60_000

/**
 * Keeps the claims' partitions, now and once a minute. What fails is tried again in a minute: partitions are made
 * fifteen minutes ahead, and a claim without one lands in the default partition, which refuses nothing.
 */
export const startMaintenance = (store: Pick<ClaimStore, 'maintain'>, logger: Logger) => {
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  const run = async (): Promise<void> => {
    try {
      const { made, dropped } = await store.maintain()
      if (made > 0 || dropped > 0) logger.info({ event: 'claims_maintained', made, dropped }, 'kept the claims')
    } catch (err) {
      logger.warn({ event: 'claims_unmaintained', err }, 'the claims are kept again in a minute')
    }
    if (!stopped) timer = setTimeout(run, everyMs)
  }
  const running = run()
  return {
    stop: async (): Promise<void> => {
      stopped = true
      clearTimeout(timer)
      await running
    },
  }
}
