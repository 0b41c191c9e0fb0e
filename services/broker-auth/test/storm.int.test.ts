import { connectEdge, edgeReconnect } from '@lenserfight/bus'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { doorOnly } from './_door.ts'

const edges = 5000
let stack: Stack

test.before(async () => {
  stack = await testStack({ replicas: { ...doorOnly, 'broker-auth': 2 } })
})
test.after.always(() => stack?.stop())

const makeDevices = (): Promise<Signatory[]> =>
  withClient(stack.owner, async (client) => {
    const { lenser } = await makeAccount(client)
    const first = await makeDevice(client, { lenser })
    // One key for all of them: what costs is the same, and making 5,000 one by one is not what is tested.
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO devices.registered_devices (lenser_id, name, device_type, os, submitted_public_key)
       SELECT $1, 'edge ' || n, 'ci', 'linux', $2 FROM generate_series(1, $3) AS n RETURNING id`,
      [lenser, first.keys.publicKey, edges],
    )
    return rows.map(({ id }) => ({ kid: id, lenser, keys: first.keys }))
  })

test(`${edges} edges that lose their broker at once all come back`, async (t) => {
  t.timeout(180_000)
  const devices = await makeDevices()
  const open = await Promise.all(
    devices.map(({ kid, lenser, keys }) =>
      connectEdge({
        url: stack.nats.url,
        gatewayId: stack.descriptor.gateway_id,
        ...{ kid, lenser, key: keys.privateKey, reconnect: edgeReconnect, waitForGateway: true },
      }),
    ),
  )
  t.is(open.length, edges)
  const began = Date.now()
  const back = Promise.all(
    open.map(({ events }) => new Promise((resolve) => events.once('connected', resolve as () => void))),
  )
  await stack.nats.kill9()
  await stack.nats.restart()
  await back
  const seconds = (Date.now() - began) / 1000
  t.log(`all back after ${seconds.toFixed(1)} s`)
  t.true(open.every(({ isConnected }) => isConnected()))
  await Promise.all(open.map(({ close }) => close()))
})
