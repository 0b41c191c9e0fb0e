import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { ensureNatsServer, readEnvironment } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import {
  askSubject,
  deviceLevels,
  devicePermissions,
  inSubject,
  kindsOf,
  loginPermissions,
  nilUuid,
} from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeSession, setLevel } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { asOwner, doorOnly, enter, makeStranger, mayPublish, maySubscribe, refusalOf } from './_door.ts'

for (const want of ['oldest', 'newest'] as const) {
  const on = (title: string): string => `${title} [${want} server]`
  let stack: Stack
  const account = () => asOwner(stack, (client) => makeAccount(client))

  test.before(async () => {
    const nats = await ensureNatsServer({ env: readEnvironment(), want })
    stack = await testStack({ nats, replicas: { ...doorOnly, 'broker-auth': 2 } })
  })
  test.after(on('no judgement failed, and no request was foreign'), (t) => {
    const logs = ['broker-auth', 'broker-auth-2'].map((name) => readFileSync(join(stack.logDir, `${name}.log`), 'utf8'))
    for (const log of logs) {
      t.false(/judgement_failed|foreign_request/.test(log))
      t.true(log.includes('"started"'))
    }
    // Whichever of them was asked.
    t.true(logs.some((log) => log.includes('"refused"')))
  })
  test.after.always(() => stack?.stop())

  test(on('a device gets in with exactly what its state allows'), async (t) => {
    const { lenser } = await account()
    for (const level of deviceLevels) {
      const device = await asOwner(stack, (client) => makeDevice(client, { lenser, level }))
      const bus = await enter(t, stack, device)
      const { publish, subscribe } = devicePermissions({ lenser, kid: device.kid, state: level })
      for (const kind of [...kindsOf('in')]) {
        const subject = inSubject({ lenser, kid: device.kid, kind })
        t.is(await mayPublish(bus, subject), publish.includes(subject), `${level} ${kind}`)
      }
      t.true(await mayPublish(bus, askSubject({ lenser, kid: device.kid, kind: 'status' })), level)
      t.false(await mayPublish(bus, askSubject({ lenser, kid: device.kid, kind: 'approve' })), level)
      for (const subject of subscribe) t.true(await maySubscribe(bus, subject), `${level} ${subject}`)
    }
  })

  test(on('a session gets in to make its owner’s requests; a stranger only to log in'), async (t) => {
    const { lenser } = await account()
    const session = await asOwner(stack, (client) => makeSession(client, lenser))
    const bus = await enter(t, stack, session)
    t.true(await mayPublish(bus, askSubject({ lenser, kid: session.kid, kind: 'approve' })))
    t.false(await mayPublish(bus, askSubject({ lenser, kid: session.kid, kind: 'login' })))
    t.false(await mayPublish(bus, inSubject({ lenser, kid: session.kid, kind: 'heartbeat' })))

    const stranger = makeStranger()
    const unknown = await enter(t, stack, stranger, { includePublicKey: true })
    const { publish } = loginPermissions(stranger.kid)
    t.true(await mayPublish(unknown, publish[0] as string))
    t.false(await mayPublish(unknown, askSubject({ lenser: nilUuid, kid: stranger.kid, kind: 'status' })))
    t.false(await mayPublish(unknown, askSubject({ lenser, kid: session.kid, kind: 'status' })))
  })

  test(on('unproven keys are refused'), async (t) => {
    const { lenser } = await account()
    const device = await asOwner(stack, (client) => makeDevice(client, { lenser }))
    const refused = (who: Parameters<typeof refusalOf>[2], knock?: Parameters<typeof refusalOf>[3]) =>
      refusalOf(t, stack, who, knock)
    t.is(await refused({ ...device, keys: generateKeyPair() }), 'connection_refused', 'another key')
    t.is(await refused({ ...device, kid: newUuidV7() }), 'connection_refused', 'a kid that nobody knows')
    t.is(await refused(device, { gatewayId: newUuidV7() }), 'connection_refused', 'signed for another gateway')
    t.is(await refused(makeStranger()), 'connection_refused', 'a stranger without a key')
    const liar = { ...makeStranger(), kid: newUuidV7() }
    t.is(await refused(liar, { includePublicKey: true }), 'connection_refused', 'a kid that is not the hash of its key')
    t.is(await refused(device), undefined)
  })

  test(on('RP-1: a connect by a wrong clock is admitted to ask for its status alone'), async (t) => {
    const { lenser } = await account()
    const device = await asOwner(stack, (client) => makeDevice(client, { lenser }))
    const bus = await enter(t, stack, device, { now: () => Date.now() - 400_000 })
    t.false(await mayPublish(bus, inSubject({ lenser, kid: device.kid, kind: 'heartbeat' })))
    t.true(await mayPublish(bus, askSubject({ lenser, kid: device.kid, kind: 'status' })))
    t.true(await maySubscribe(bus, `ltg.v1.out.${lenser}.${device.kid}.*`))
  })

  test(on('a session that has ended is admitted to ask for its status alone'), async (t) => {
    const { lenser } = await account()
    const session = await asOwner(stack, async (client) => {
      const made = await makeSession(client, lenser)
      await client.query(`UPDATE lensers.sessions SET revoked_at = now() WHERE kid = $1`, [made.kid])
      return made
    })
    const bus = await enter(t, stack, session)
    t.true(await mayPublish(bus, askSubject({ lenser, kid: session.kid, kind: 'status' })))
    t.false(await mayPublish(bus, askSubject({ lenser, kid: session.kid, kind: 'list' })))
  })

  test(on('a change of state shows at the next connect'), async (t) => {
    const { lenser } = await account()
    const device = await asOwner(stack, (client) => makeDevice(client, { lenser, level: 'pending' }))
    const bus = await enter(t, stack, device)
    const heartbeat = inSubject({ lenser, kid: device.kid, kind: 'heartbeat' })
    t.false(await mayPublish(bus, heartbeat))
    await asOwner(stack, async (client) => {
      await client.query('UPDATE devices.registered_devices SET public_key = submitted_public_key WHERE id = $1', [
        device.kid,
      ])
      await setLevel(client, device.kid, 'approved')
    })
    const back = new Promise((resolve) => bus.events.once('connected', () => resolve(true)))
    await bus.reconnect()
    await back
    t.true(await mayPublish(bus, heartbeat))
  })

  test(on('a revoke cuts the connection, and what comes back may ask for its status'), async (t) => {
    const { lenser } = await account()
    const [device, other] = await asOwner(stack, async (client) => [
      await makeDevice(client, { lenser }),
      await makeDevice(client, { lenser }),
    ])
    const [bus, beside] = [await enter(t, stack, device), await enter(t, stack, other)]
    const back = new Promise((resolve) => bus.events.once('connected', () => resolve(true)))
    await asOwner(stack, (client) => setLevel(client, device.kid, 'revoked'))
    await back
    t.false(await mayPublish(bus, inSubject({ lenser, kid: device.kid, kind: 'heartbeat' })))
    t.true(await mayPublish(bus, askSubject({ lenser, kid: device.kid, kind: 'status' })))
    t.true(await mayPublish(beside, inSubject({ lenser, kid: other.kid, kind: 'heartbeat' })))
  })
}
