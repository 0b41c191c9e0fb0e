import { setTimeout as sleep } from 'node:timers/promises'
import { connectDaemon, type DaemonClient, type MethodName, type MethodParams } from '@lenserfight/daemon/client'
import { CodedError } from '@lenserfight/schemas'

const reconnectMs = 250
/** A conversation in which nothing is asked is closed after so long, milliseconds: the daemon has 64 at most. */
const idleMs = 1_000

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

const isUnreachable = (error: unknown): boolean => error instanceof CodedError && error.code === 'daemon_unreachable'

/** @param path the daemon's socket */
export const createConnection = (path: string): Connection => {
  let client: Promise<DaemonClient> | undefined
  let pending = 0
  let idle: NodeJS.Timeout | undefined
  let isClosed = false
  const drop = (): void => {
    void client?.then(({ close }) => close()).catch(() => {})
    client = undefined
  }
  const opened = async (): Promise<DaemonClient> => {
    clearTimeout(idle)
    const known = client
    const isGone = known !== undefined && (await known.then(({ isOpen }) => !isOpen()).catch(() => true))
    if (isGone && client === known) drop()
    client ??= connectDaemon(path)
    return client
  }
  return {
    request: async (method, params) => {
      if (isClosed) throw new CodedError('daemon_unreachable', 'the conversation was closed')
      pending += 1
      try {
        const mine = await opened()
        return await mine.request(method, params)
      } finally {
        pending -= 1
        if (pending === 0) idle = setTimeout(drop, idleMs)
      }
    },
    close: () => {
      isClosed = true
      clearTimeout(idle)
      drop()
    },
  }
}

export interface Persistence {
  /** How long the daemon may be away, milliseconds. */
  readonly awayMs: number
  /** A question that was under way for so long had a daemon until it broke off, milliseconds. */
  readonly thereMs?: number
  readonly signal?: AbortSignal | undefined
}

/** Asks again while the daemon is away, for what may be asked twice. */
export const persist = async <T>(ask: () => Promise<T>, options: Persistence): Promise<T> => {
  const { awayMs, thereMs = 30_000, signal } = options
  for (let awaySince = performance.now(); ; ) {
    const asked = performance.now()
    try {
      return await ask()
    } catch (error) {
      const now = performance.now()
      if (now - asked >= thereMs) awaySince = now
      if (!isUnreachable(error) || signal?.aborted || now - awaySince >= awayMs) throw error
      await sleep(reconnectMs)
    }
  }
}
