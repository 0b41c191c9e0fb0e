import type { Stack } from '@lenserfight/local/stack'
import { askSubject, type DeviceLevel, inSubject, limits } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { admissionsOf, changing, enterLine, type Line, until } from './_cut.ts'
import { asOwner, doorOnly, enter, mayPublish } from './_door.ts'

let stack: Stack
test.before(async () => {
  stack = await testStack({ replicas: doorOnly })
})
test.after.always(() => stack?.stop())

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const newDevice = (level: DeviceLevel = 'approved') =>
  asOwner(stack, async (client) => makeDevice(client, { lenser: (await makeAccount(client)).lenser, level }))
/** Puts the end of a device's key: as its owner does who requires a rotation, or as time does. */
const endKey = ({ kid }: Signatory, within: string) =>
  changing(stack, 'UPDATE devices.registered_devices SET key_expires_at = now() + $2::interval WHERE id = $1', [
    kid,
    within,
  ])
const runStartOf = ({ lenser, kid }: Signatory) => inSubject({ lenser, kid, kind: 'run_start' })
const heartbeatOf = ({ lenser, kid }: Signatory) => inSubject({ lenser, kid, kind: 'heartbeat' })

test('a device whose key ends while it is connected is cut by the broker then, and comes back to what an expired key may', async (t) => {
  const endsAndComesBack = async (level: DeviceLevel): Promise<void> => {
    const device = await newDevice(level)
    await endKey(device, '15 s')
    const bus = await enter(t, stack, device)
    const cut = new Promise<void>((resolve) => bus.events.once('disconnected', () => resolve()))
    t.true(await mayPublish(bus, runStartOf(device)), level)
    t.is((await admissionsOf(stack, device.kid))[0]?.due_at, null, 'nobody kicks it: its JWT ends')
    await cut
    await until(
      'it is back as what it is',
      async () => bus.isConnected() && !(await mayPublish(bus, runStartOf(device))),
    )
    for (const subject of [heartbeatOf(device), inSubject({ ...device, kind: 'rotate' })])
      t.true(await mayPublish(bus, subject), subject)
    t.true(await mayPublish(bus, askSubject({ ...device, kind: 'status' })))
  }
  await Promise.all((['approved', 'trusted', 'offline'] as const).map(endsAndComesBack))
})

test('a key whose end its owner brings forward cuts the live connection when it ends, and not before', async (t) => {
  const [now, soon, later] = [await newDevice(), await newDevice('trusted'), await newDevice()]
  const open = (device: Signatory) => enterLine(t, stack, device)
  const [first, second, third] = await Promise.all([open(now), open(soon), open(later)])
  t.true(await first.mayPublish(runStartOf(now)))
  await endKey(now, '0 s')
  await first.ended
  const began = await endKey(soon, '3 s')
  t.true((await second.ended) - began > 2500)
  const back = await enterLine(t, stack, soon)
  t.false(await back.mayPublish(runStartOf(soon)))
  t.true(await back.mayPublish(heartbeatOf(soon)))
  await endKey(later, '2 hours')
  t.is((await admissionsOf(stack, later.kid))[0]?.due_at, null, 'it has ended by itself before')
  await endKey(later, '30 minutes')
  t.is((await admissionsOf(stack, later.kid))[0]?.cause, 'key')
  t.true(third.isOpen())
})

test('the end of a key takes nothing from a device that may do no more than that, and cuts nothing', async (t) => {
  const device = await newDevice('unhealthy')
  const line = await enterLine(t, stack, device)
  await endKey(device, '2 s')
  t.is((await admissionsOf(stack, device.kid))[0]?.due_at, null)
  await delay(5000)
  t.true(line.isOpen())
  t.true(await line.mayPublish(heartbeatOf(device)))
})

test('what is to be cut later is counted as long as it is connected: nobody hoards connections by it', async (t) => {
  const device = await newDevice()
  const lines: Line[] = []
  for (let n = 0; n < limits.connectionsPerDevice; n++) lines.push(await enterLine(t, stack, device))
  await endKey(device, '30 minutes')
  const more = [await enterLine(t, stack, device), await enterLine(t, stack, device)]
  await Promise.all(lines.slice(0, 2).map(({ ended }) => ended))
  await delay(2500)
  t.true([...lines.slice(2), ...more].every(({ isOpen }) => isOpen()))
})
