import { edgePaths } from '@lenserfight/daemon/client'
import { createConnection } from './connection.ts'
import { askPermit, type PermitRequest } from './permit.ts'
import { createRun, type Run, type RunOptions } from './run.ts'

export interface RunnerOptions {
  /** The folder that `LENSERFIGHT_HOME` names; else that of the environment. */
  readonly home?: string
  /** The daemon's socket itself, in place of a folder. */
  readonly socket?: string
}

/** What runs things on this machine, in a conversation with its daemon. */
export interface Runner {
  /**
   * Asks for a run, and waits for a person where the account's policy wants one. Nothing may run before `start` of it.
   * @throws CodedError see `PermitRequest` and README.md
   */
  readonly permit: (request: PermitRequest & RunOptions) => Promise<Run>
  /** What the daemon says of itself. */
  readonly status: () => Promise<Readonly<Record<string, unknown>>>
  /** Ends the conversation, and those of its runs. */
  readonly close: () => void
}

const socketOf = ({ home, socket }: RunnerOptions): string =>
  socket ?? (home === undefined ? edgePaths() : edgePaths({ LENSERFIGHT_HOME: home })).socket

/**
 * Opens a conversation with this machine's daemon.
 * @throws CodedError `daemon_unreachable`
 */
export const openRunner = async (options: RunnerOptions = {}): Promise<Runner> => {
  const path = socketOf(options)
  const connection = createConnection(path)
  const open = new Set<() => void>()
  await connection.request('status', {})
  return {
    permit: async (request) => {
      const own = createConnection(path)
      try {
        const run = createRun(own, await askPermit(own, request), request)
        const close = (): void => {
          open.delete(close)
          run.close()
        }
        open.add(close)
        return { ...run, close }
      } catch (error) {
        own.close()
        throw error
      }
    },
    status: () => connection.request('status', {}),
    close: () => {
      for (const close of open) close()
      connection.close()
    },
  }
}
