import { join } from 'node:path'
import { connectDaemon, readEdgeConfig, startDaemon } from '@lenserfight/daemon'
import type { Stack } from '@lenserfight/local/stack'
import { createLogger } from '@lenserfight/runtime'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { Machine, until } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine }>
const logger = createLogger({ service: 'test', level: 'fatal' })

test.before('an enrolled machine whose daemon is stopped', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const machine = new Machine(stack, 'erin')
  t.context = { stack, machine }
  await machine.enrol('erin', 'machine')
  await machine.end('SIGTERM')
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

const startAt = (machine: Machine, now: () => number) => {
  const home = { LENSERFIGHT_HOME: join(machine.home, 'lf') }
  const config = readEdgeConfig({ ...home, LF_GATEWAY_KEY_FILE_FALLBACK: '1', LF_GATEWAY_PORT: '0' })
  return startDaemon({ config, logger, warn: () => {}, now })
}

test.serial('RP-1: a daemon does not start on a clock that is over 300 s off, and says why', async (t) => {
  for (const offset of [-400_000, 400_000]) {
    const daemon = await startAt(t.context.machine, () => Date.now() + offset)
    t.is((await daemon.failed).code, 'clock_skew')
    await daemon.stop()
  }
})

test.serial(
  'RP-1: one whose clock goes wrong while it runs refuses to run, and goes on when the clock is set',
  async (t) => {
    const { machine } = t.context
    let offset = 0
    const daemon = await startAt(machine, () => Date.now() + offset)
    const client = await connectDaemon(daemon.socket)
    const status = () => client.request('status', {})
    const run = { command_hash: 'A'.repeat(43), inputs: [] }
    await until(async () => (await status()).trust_level === 'approved')
    offset = 400_000
    await until(async () => (await status()).code === 'clock_skew')
    await t.throwsAsync(client.request('run.permit', { run, timeout_ms: 500 }), { code: 'clock_skew' })
    offset = 0
    await until(async () => (await status()).code === null)
    t.is((await client.request('run.permit', { run, timeout_ms: 20_000 })).verdict, 'allow')
    client.close()
    await daemon.stop()
  },
)
