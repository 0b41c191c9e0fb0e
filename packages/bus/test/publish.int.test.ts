import { InfrastructureError } from '@lenserfight/runtime'
import { errors } from '@nats-io/transport-node'
import test from 'ava'
import { type Broker, startBroker, until } from './_broker.ts'

let broker: Broker
test.before(async () => {
  broker = await startBroker()
  await broker.provision()
})
test.after.always(() => broker?.stop())

test.serial('a publish to a stream ends with its acknowledgement', async (t) => {
  const bus = await broker.connect('verifier')
  const { stream, seq } = await bus.publish('ltg.v1.ok.heartbeat', 'x')
  t.deepEqual([stream, seq], ['LTG_VERIFIED', 1])
})

test.serial('a payload that no message may have is the caller’s fault, not infrastructure', async (t) => {
  const bus = await broker.connect('verifier')
  const payload = new Uint8Array(2 * 1024 * 1024)
  await t.throwsAsync(bus.publish('ltg.v1.ok.heartbeat', payload), { instanceOf: errors.InvalidArgumentError })
})

test.serial('unavailable: no stream, a broker that says nothing, one that dies, one that is gone', async (t) => {
  const bus = await broker.connect('verifier')
  const publish = () => bus.publish('ltg.v1.ok.heartbeat', 'x')
  const unavailable = async (title: string, withinMs: number) => {
    const began = Date.now()
    const error = await t.throwsAsync(publish(), { instanceOf: InfrastructureError }, title)
    t.is(error?.code, 'unavailable')
    t.true(Date.now() - began < withinMs, `${title}: ${Date.now() - began} ms`)
  }
  broker.nats.pause()
  await new Promise((resolve) => setTimeout(resolve, 200))
  const dying = unavailable('dies meanwhile', 4900)
  await new Promise((resolve) => setTimeout(resolve, 300))
  await broker.nats.kill9()
  await dying
  await until('it is known to be gone', () => !bus.isConnected())
  // At once: any wait for an answer would be longer.
  await unavailable('gone', 1000)
  await broker.nats.restart({ emptyStore: true })
  await until('it is back', () => bus.isConnected())
  await unavailable('no stream', 4900)
})
