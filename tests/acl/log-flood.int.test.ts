import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { makeAccount, makeDevice } from '@lenserfight/testkit'
import test from 'ava'
import { connectAs, startDoor } from './_acl.ts'

const fileBytes = 64 * 1024
const files = 4
const violations = 6000

/** The broker with its own configuration, but files so small that they turn over within a test. */
const shrinkLogs = async (stack: Stack): Promise<void> => {
  const text = readFileSync(join(dirname(stack.nats.storeDir), 'nats.conf'), 'utf8')
  const configText = text.replace(/^logfile_size_limit: \d+$/m, `logfile_size_limit: ${fileBytes}`)
  if (configText === text) throw new Error('the configuration bounds no log file')
  await stack.nats.restart({ configText })
  await stack.whenReady()
}

const logsOf = (stack: Stack): { name: string; bytes: number; text: string }[] =>
  readdirSync(stack.logDir)
    .filter((name) => name.startsWith('nats.log'))
    .map((name) => join(stack.logDir, name))
    .map((path) => ({ name: path, bytes: statSync(path).size, text: readFileSync(path, 'utf8') }))

for (const want of ['oldest', 'newest'] as const) {
  test(`a revoked device that violates its permissions without pause fills no disk [${want} server]`, async (t) => {
    const stack = await startDoor(want)
    t.teardown(() => stack.stop())
    await shrinkLogs(stack)
    const device = await withClient(stack.owner, async (client) =>
      makeDevice(client, { lenser: (await makeAccount(client)).lenser, level: 'revoked' }),
    )
    const nc = await connectAs(stack, device)
    t.teardown(() => nc.close())
    let written = 0
    for (let n = 0; n < violations; n++) {
      nc.publish(`ltg.v1.in.${device.lenser}.${device.kid}.heartbeat`, 'x')
      if (n % 1000 === 999) await nc.flush()
      written = n
    }
    await nc.flush()
    await sleep(200)
    const logs = logsOf(stack)
    const bytes = logs.reduce((sum, log) => sum + log.bytes, 0)
    t.log(`${written + 1} violations left ${bytes} bytes in ${logs.length} files`)
    t.true(logs.some(({ text }) => text.includes('Violation')))
    t.is(logs.length, files)
    t.true(bytes < files * fileBytes * 1.1)
  })
}
