import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { readEnvironment, temporaryRunFolder } from '@lenserfight/local'
import { type Stack, type StackOptions, startStack } from '@lenserfight/local/stack'
import { readTestEnvironment } from './env.ts'

/**
 * The whole gateway for one test file: real broker, database and workers, in a folder of its own. fsync is off unless asked for.
 * Call `stop` in the file's teardown; whatever happens, nothing outlives the test's process.
 */
export async function testStack(options: StackOptions = {}): Promise<Stack> {
  const env = readEnvironment()
  const tests = readTestEnvironment()
  const dir = temporaryRunFolder(env)
  const logDir = join(tests.logs ?? dir, `stack-${randomBytes(4).toString('hex')}`)
  mkdirSync(logDir, { recursive: true, mode: 0o700 })
  return startStack({
    env,
    dir,
    folder: dir,
    logDir,
    fsync: false,
    ...(tests.natsServer === undefined ? {} : { nats: { path: tests.natsServer } }),
    ...options,
  })
}
