import { InfrastructureError, type Logger, type StateHolder, type WorkerState } from '@lenserfight/runtime'

const probeMs = 1000

/**
 * Ready means that a message would be verified now. The consumer knows when it holds messages; whether the database is
 * there while none come, it cannot know, so it is asked each second.
 */
export const createReadiness = ({
  holder,
  probe,
  logger,
}: {
  holder: StateHolder
  probe: () => Promise<void>
  logger: Logger
}) => {
  let consumer: WorkerState = 'connecting'
  let isOpen = true
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  const tell = (reason?: string): void =>
    isOpen || consumer !== 'consuming' ? holder.set(consumer, reason) : holder.set('holding', 'database')
  const ask = async (): Promise<void> => {
    try {
      await probe()
      isOpen = true
    } catch (err) {
      if (isOpen) logger.warn({ event: 'database_gone', err }, 'the database does not answer')
      isOpen = false
      if (!(err instanceof InfrastructureError)) logger.error({ event: 'probe_failed', err }, 'the probe failed')
    }
    tell()
    if (!stopped) timer = setTimeout(ask, probeMs)
  }
  return {
    setConsumer: (next: WorkerState, reason?: string): void => {
      consumer = next
      tell(reason)
    },
    start: (): Promise<void> => ask(),
    stop: (): void => {
      stopped = true
      clearTimeout(timer)
    },
  }
}
