import { createLifecycle, createLogger } from '@lenserfight/runtime'
import { CodedError } from '@lenserfight/schemas'
import type { EdgeConfig } from './config.ts'
import { startDaemon } from './daemon.ts'
import { keepRefusal } from './lifecycle.ts'
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
  const daemon = await startDaemon({ config, logger, warn }).catch((error: unknown) => {
    if (error instanceof CodedError) {
      logger.error({ event: 'refused', code: error.code }, 'the daemon does not start')
      // Where another daemon runs, this device is served.
      if (error.code !== 'daemon_running') keepRefusal(config, error.code)
    }
    throw error
  })
  const lifecycle = createLifecycle({ logger })
  lifecycle.onStop('daemon', daemon.stop, 5_000)
  // Its terminal was closed. Unheard it ends Node at once, under nohup too.
  process.on('SIGHUP', () => lifecycle.stop('SIGHUP'))
  void daemon.failed.then((error) => {
    warn(`${error.code}: ${error.message}`)
    lifecycle.stop(error.code, error)
  })
  const { socket, binds } = daemon
  logger.info({ event: 'started', version: daemonVersion, socket, binds }, 'the daemon is up')
  return lifecycle.run()
}
