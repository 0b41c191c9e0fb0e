import { setTimeout as sleep } from 'node:timers/promises'
import { connectDaemon, type DaemonClient, type MethodName, type MethodParams } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'

const reconnectMs = 250

export type Answer = Readonly<Record<string, unknown>>

/** A conversation with the daemon that is opened anew where it broke: a daemon that restarts is soon there again. */
export interface Connection {
  /**
   * Asks once. What broke off while it was under way may have been done.
   * @throws CodedError the daemon's code, `daemon_unreachable`
   */
  readonly request: <N extends MethodName>(method: N, params: MethodParams<N>) => Promise<Answer>
  readonly close: () => void
}

export const isUnreachable = (error: unknown): boolean =>
  error instanceof CodedError && error.code === 'daemon_unreachable'

/** @param path the daemon's socket */
export const createConnection = (path: string): Connection => {
  let client: Promise<DaemonClient> | undefined
  let isClosed = false
  const drop = (): void => {
    void client?.then(({ close }) => close()).catch(() => {})
    client = undefined
  }
  return {
    request: async (method, params) => {
      if (isClosed) throw new CodedError('daemon_unreachable', 'the conversation was closed')
      client ??= connectDaemon(path)
      const mine = client
      try {
        return await (await mine).request(method, params)
      } catch (error) {
        if (isUnreachable(error) && client === mine) drop()
        throw error
      }
    },
    close: () => {
      isClosed = true
      drop()
    },
  }
}

/**
 * Asks again while the daemon is away, for what may be asked twice.
 * @param forMs how long it may be away
 */
export const persist = async <T>(ask: () => Promise<T>, forMs: number, signal?: AbortSignal): Promise<T> => {
  for (const end = performance.now() + forMs; ; ) {
    try {
      return await ask()
    } catch (error) {
      if (!isUnreachable(error) || signal?.aborted || performance.now() >= end) throw error
      await sleep(reconnectMs)
    }
  }
}
