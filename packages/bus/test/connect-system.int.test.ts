import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect as dial } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError } from '@lenserfight/runtime'
import test, { type ExecutionContext } from 'ava'
import { connectSystem, type SystemBus } from '../src/index.ts'
import { type Broker, quick, silent, startBroker, until } from './_broker.ts'

for (const want of ['oldest', 'newest'] as const) {
  const on = (title: string): string => `${title} [${want} server]`
  let broker: Broker
  let system: SystemBus
  const connectAs = (seed: string): Promise<SystemBus> => {
    const seed_file = join(broker.nats.storeDir, '..', `system-${crypto.randomUUID()}.nk`)
    writeFileSync(seed_file, seed, { mode: 0o600 })
    return connectSystem({ nats: { servers: [broker.nats.url], seed_file }, logger: silent, reconnect: quick })
  }
  test.before(async () => {
    broker = await startBroker(want)
    system = await connectAs(broker.seeds.system)
  })
  test.after.always(async () => {
    await system?.close()
    await broker?.stop()
  })

  test.serial(on('a kick ends the connection that it names, and says when there is none'), async (t) => {
    const [edge, other] = [await broker.edge(), await broker.edge()]
    const { server_id, client_id } = edge.info as { server_id: string; client_id: number }
    let lost = false
    void (async () => {
      for await (const { type } of edge.status()) lost ||= type === 'disconnect'
    })()
    t.is(await system.kick(server_id, client_id), 'cut')
    await until('it is lost', () => lost)
    t.is(await system.kick(server_id, client_id), 'gone')
    await other.flush()
    t.is(other.info?.client_id, client_id + 1, 'its neighbour is where it was')
  })

  test.serial(on('a connection is there to be kicked before it was admitted'), async (t) => {
    const socket = dial({ host: '127.0.0.1', port: broker.nats.port })
    t.teardown(() => void socket.destroy())
    const [greeting] = (await once(socket, 'data')) as [Buffer]
    const { server_id, client_id } = JSON.parse(greeting.toString().slice(5)) as {
      server_id: string
      client_id: number
    }
    const closed = once(socket, 'close')
    t.is(await system.kick(server_id, client_id), 'cut')
    await closed
  })

  test.serial(on('a server that is not there is told at once'), async (t) => {
    t.is(await system.kick(`N${'A'.repeat(55)}`, 1), 'no_server')
  })

  test.serial(on('whoever is not the system user kicks nobody'), async (t) => {
    const edge = await broker.edge()
    const { server_id, client_id } = edge.info as { server_id: string; client_id: number }
    for (const seed of [broker.seeds['broker-auth'], broker.seeds.registrar, broker.seeds.edge]) {
      const impostor = await connectAs(seed)
      t.teardown(impostor.close)
      await t.throwsAsync(impostor.kick(server_id, client_id))
    }
    await edge.flush()
    t.is(edge.info?.client_id, client_id)
  })

  test.serial(on('without a broker, or with one that says nothing, no answer is taken for one'), async (t) => {
    await noAnswer(t, async () => {
      broker.nats.pause()
      // A signal that stops all threads takes its moment on a busy machine.
      await sleep(300)
    })
    broker.nats.resume()
    await until('it answers again', () =>
      system.kick(`N${'A'.repeat(55)}`, 1).then(
        (result) => result === 'no_server',
        () => false,
      ),
    )
    await broker.nats.stop()
    await noAnswer(t, async () => {})
    await broker.nats.restart()
    await until('it is back', () => system.isConnected())
    t.is(await system.kick(`N${'A'.repeat(55)}`, 1), 'no_server')
  })

  const noAnswer = async (t: ExecutionContext, begin: () => Promise<void>): Promise<void> => {
    await begin()
    await t.throwsAsync(system.kick(`N${'A'.repeat(55)}`, 1), { instanceOf: InfrastructureError })
  }
}
