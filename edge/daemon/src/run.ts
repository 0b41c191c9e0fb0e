import { createLifecycle, createLogger } from '@lenserfight/runtime'
import type { EdgeConfig } from './config.ts'
import { startDaemon } from './daemon.ts'
import { daemonVersion } from './version.ts'

/**
 * Runs the daemon in the foreground until a signal ends it. Logs are JSON lines on standard output.
 * @param warn a line for people
 * @throws CodedError what keeps it from starting; once started it never returns
 */
export const runDaemon = async (config: EdgeConfig, warn: (line: string) => void): Promise<never> => {
  // Whatever is made from here on, SQLite's own files too, is nobody else's (CO-3).
  process.umask(0o077)
  const logger = createLogger({ service: 'lf-gatewayd', level: config.logLevel })
  const daemon = await startDaemon({ config, logger, warn })
  const lifecycle = createLifecycle({ logger })
  lifecycle.onStop('daemon', daemon.stop, 5_000)
  void daemon.failed.then((error) => {
    warn(`${error.code}: ${error.message}`)
    lifecycle.stop(error.code, error)
  })
  const { socket, binds } = daemon
  logger.info({ event: 'started', version: daemonVersion, socket, binds }, 'the daemon is up')
  return lifecycle.run()
}
