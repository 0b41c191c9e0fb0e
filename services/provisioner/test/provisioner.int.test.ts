import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureNatsServer, readEnvironment } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { consumers, streams } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import { connect, nkeyAuthenticator } from '@nats-io/transport-node'
import test from 'ava'
import { consumerConfig, differences, streamConfig } from '../src/index.ts'

const alone = { 'broker-auth': 0, registrar: 0, verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 }

/** The broker's API, with the provisioner's own key. */
const asProvisioner = async (stack: Stack): Promise<{ manager: JetStreamManager; close: () => Promise<void> }> => {
  const nc = await connect({
    servers: stack.nats.url,
    inboxPrefix: '_INBOX_provisioner',
    authenticator: nkeyAuthenticator(new TextEncoder().encode(stack.busUser('provisioner').seed)),
    ...{ maxReconnectAttempts: -1, reconnectTimeWait: 100 },
  })
  return { manager: await jetstreamManager(nc, { checkAPI: false }), close: () => nc.close() }
}

const readiness = async (stack: Stack): Promise<{ status: number; state: string; wrong: string[] }> => {
  const file = join(stack.dir, 'health', 'provisioner.json')
  const { port } = JSON.parse(readFileSync(file, 'utf8')) as { port: number }
  const response = await fetch(`http://127.0.0.1:${port}/readyz`)
  return { status: response.status, ...((await response.json()) as { state: string; wrong: string[] }) }
}

const until = async (what: string, holds: () => Promise<boolean>, ms = 60_000): Promise<void> => {
  const end = Date.now() + ms
  while (!(await holds().catch(() => false))) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const isAsTheTopologySays = async (manager: JetStreamManager): Promise<boolean> => {
  for (const spec of streams) {
    if (differences(streamConfig(spec), (await manager.streams.info(spec.name)).config).length > 0) return false
  }
  for (const spec of consumers) {
    const { config } = await manager.consumers.info(spec.stream, spec.name)
    if (differences(consumerConfig(spec), config).length > 0) return false
  }
  return true
}

for (const want of ['oldest', 'newest'] as const) {
  test(`streams and consumers are made, kept, made again and read back [${want} server]`, async (t) => {
    t.timeout(240_000)
    const nats = await ensureNatsServer({ env: readEnvironment(), want })
    const stack = await testStack({ nats, replicas: alone })
    t.teardown(() => stack.stop())
    const { manager, close } = await asProvisioner(stack)
    t.teardown(close)
    t.true(await isAsTheTopologySays(manager), 'ready means that all is there')

    // Somebody turned the guard of the ingress off, and changed a consumer, while nobody looked.
    const [ingress] = streams
    const [worker] = stack.workers('provisioner')
    worker?.send('SIGSTOP')
    await manager.streams.update('LTG_INGRESS', { ...streamConfig(ingress), no_ack: false, max_age: 60_000_000_000 })
    await manager.consumers.update('LTG_INGRESS', 'verifier', { max_ack_pending: 5 })
    t.false(await isAsTheTopologySays(manager))
    worker?.send('SIGCONT')
    await until('it is put right', () => isAsTheTopologySays(manager))

    await stack.nats.restart({ emptyStore: true })
    await until('all is made again', () => isAsTheTopologySays(manager))
    await until('it is ready again', async () => (await readiness(stack)).status === 200)

    // What cannot be changed keeps it not ready: nobody is led past an ingress without its guards.
    worker?.send('SIGSTOP')
    await stack.nats.restart({ emptyStore: true })
    await until(
      'the store is empty',
      async () =>
        (await manager.streams.add({ ...streamConfig(ingress), storage: 'memory', max_bytes: 1_000_000 })) !==
        undefined,
    )
    worker?.send('SIGCONT')
    await until('it holds', async () => (await readiness(stack)).state === 'holding')
    const { status, wrong } = await readiness(stack)
    t.is(status, 503)
    t.true(wrong.includes('LTG_INGRESS.storage'))
    await t.throwsAsync(manager.consumers.info('LTG_INGRESS', 'verifier'), undefined, 'no consumer is made on it')
  })
}
