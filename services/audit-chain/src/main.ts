/** The audit-chain worker: links the audit records of committed effects into their Lensers' hash chains. */
import { call, createPool } from '@lenserfight/db'
import { createLifecycle, createLogger, createState, readConfig, readSecret, serveHealth } from '@lenserfight/runtime'
import { AuditChainConfig, defaultLinking } from './config.ts'
import { startLinker } from './linker.ts'

const config = readConfig(AuditChainConfig, process.argv.slice(2))
const { pg, health, linking = defaultLinking } = config
const logger = createLogger({ service: config.service, replica: config.replica, level: config.log_level })
const lifecycle = createLifecycle({ logger, supervised: config.supervised })
const ended = lifecycle.run()
const state = createState({ logger })

const pool = createPool({ ...pg, password: readSecret(pg.password_file), logger })
lifecycle.onStop('pool', () => pool.end(), 5000)

state.set('connecting')
const linker = startLinker({
  link: async (limit) => {
    const [row] = await call<{ fn_chain_link: number }>(pool, 'audit.fn_chain_link', [limit])
    return row?.fn_chain_link ?? 0
  },
  ...{ state, logger, batch: linking.batch, pollMs: linking.poll_ms },
})
lifecycle.onStop('linker', linker.stop, 10_000)

const healthServer = await serveHealth({
  ...health,
  state: state.state,
  since: state.since,
  details: () => ({ replica: config.replica, ...linker.figures() }),
  logger,
})
lifecycle.onStop('health', healthServer.close, 1000)

logger.info({ event: 'started' }, 'the audit-chain worker runs')
await ended
