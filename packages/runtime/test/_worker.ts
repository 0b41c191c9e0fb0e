// A worker with nothing to do, for the tests of how one ends.
import { CodedError } from '@lenserfight/schemas'
import { createLifecycle, createLogger } from '../src/index.ts'

const scenario = process.argv[2]
const logger = createLogger({ service: 'verifier', level: 'info' })
const lifecycle = createLifecycle({ logger, supervised: scenario === 'supervised' })
lifecycle.onStop('first', () => logger.info({ event: 'stopped_first' }, 'stopped'), 1000)
lifecycle.onStop('second', () => logger.info({ event: 'stopped_second' }, 'stopped'), 1000)
if (scenario === 'late') lifecycle.onStop('late', () => new Promise(() => {}), 100)
if (scenario === 'stuck') lifecycle.onStop('stuck', () => new Promise(() => {}), 60_000)
if (scenario === 'crash') setTimeout(() => Promise.reject(new TypeError('broken')), 10)
if (scenario === 'refused') setTimeout(() => lifecycle.stop('refused', new CodedError('workspace_paused')), 10)
logger.info({ event: 'ready' }, 'ready')
if (scenario === 'startup') throw new RangeError('cannot start')
await lifecycle.run()
