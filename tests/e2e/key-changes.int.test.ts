import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { connectDaemon } from '@lenserfight/daemon/client'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { identityOf, keptKeys, keyInForce } from './_keys.ts'
import { LyingBroker, type Manner } from './_lying-broker.ts'
import { Machine, until, withSettings } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine; broker: LyingBroker; device: string }>

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

test.before('an enrolled machine, whose broker may lie', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const machine = new Machine(stack, 'rita')
  const broker = await LyingBroker.start(stack.nats.port)
  const device = await machine.enrol('rita', 'machine')
  await machine.end('SIGTERM')
  withSettings(machine, (settings) => settings.update('descriptor', (kept) => kept && { ...kept, url: broker.url }))
  await machine.serve()
  t.context = { stack, machine, broker, device }
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.broker?.stop()
  await t.context.stack?.stop()
})

type T = ExecutionContext<{ stack: Stack; machine: Machine; broker: LyingBroker; device: string }>

// A machine is given more keys here than one may have within its hour (`change_limit`): to each test, those before are long ago.
test.beforeEach((t) =>
  withClient(t.context.stack.owner, (client) =>
    client.query(
      `BEGIN;
       ALTER TABLE devices.device_keys DISABLE TRIGGER only_ends;
       UPDATE devices.device_keys SET since = since - interval '1 hour';
       ALTER TABLE devices.device_keys ENABLE ALWAYS TRIGGER only_ends;
       COMMIT`,
    ),
  ),
)

/** The gateway’s key is kept, whatever was done: the one thing that no broker and no crash may end. */
const checkNotLocked = async (t: T, what: string): Promise<void> => {
  const inForce = async (): Promise<string> => (await keyInForce(t.context.stack, t.context.device)).key
  let key = await inForce()
  for (;;) {
    const kept = [...keptKeys(t.context.machine).values()]
    const now = await inForce()
    if (now === key) return void t.true(kept.includes(key), what)
    // It changed between the two looks, which then say nothing about one moment.
    key = now
  }
}

/** Asks the daemon as `lf` does, whatever becomes of it. */
const askToRotate = async (machine: Machine, timeout_ms: number): Promise<void> => {
  const client = await connectDaemon(join(machine.state, 'daemon.sock'))
  await client.request('identity.rotate', { timeout_ms }).catch(() => {})
  client.close()
}

/** Nothing is under way, one key is kept, it is the gateway’s, and the machine works under it. */
const untilSettled = async (t: T): Promise<number> => {
  const { stack, machine, device } = t.context
  await until(async () => {
    const identity = identityOf(machine)
    const { key } = await keyInForce(stack, device)
    return identity.public_key === key && !identity.changes?.length && keptKeys(machine).size === 1
  }, 'one key, the gateway’s')
  const identity = identityOf(machine)
  const { key, number } = await keyInForce(stack, device)
  t.deepEqual([...keptKeys(machine)], [[identity.key_name, key]])
  await until(async () => (await machine.status()).connection === 'connected')
  const ran = await machine.lf(['run', '--', 'true'])
  t.is(ran.code, 0, ran.stderr)
  return number
}

test.serial('RFC-0003 §9: rotate replaces the key, and the former one is gone from the machine', async (t) => {
  const { machine } = t.context
  const before = identityOf(machine)
  const shown = await machine.ask<{ done: boolean; public_key: string; key: { number: number } }>(
    ...['gateway', 'identity', 'rotate'],
  )
  t.deepEqual([shown.done, shown.key.number], [true, 2])
  t.not(shown.public_key, before.public_key)
  t.is(await untilSettled(t), 2)
  t.is((await machine.lf(['gateway', 'identity', 'export-public'])).stdout.trim(), shown.public_key)
  const exported = await machine.ask('gateway', 'identity', 'export-public')
  t.deepEqual([exported.public_key, exported.key_number], [shown.public_key, 2])
  t.regex((await machine.lf(['gateway', 'identity', 'show'])).stdout, /Number {3}2\nAge {6}0 days[^\n]*\nEnd {6}ends /)
})

test.serial('without the daemon nobody rotates: exit code 4', async (t) => {
  const { machine } = t.context
  await machine.end('SIGTERM')
  const refused = await machine.lf(['gateway', 'identity', 'rotate'])
  t.is(refused.code, 4)
  t.regex(refused.stderr, /^daemon_unreachable: .*lf gateway serve/m)
  await machine.serve()
})

test.serial(
  'a rotation that is asked for while nobody answers is kept, through a crash, until somebody does',
  async (t) => {
    const { machine, broker } = t.context
    const { number } = await keyInForce(t.context.stack, t.context.device)
    broker.become('drop')
    const asked = await machine.ask<{ done: boolean }>('gateway', 'identity', 'rotate', '--wait', '1')
    t.false(asked.done)
    await checkNotLocked(t, 'offline')
    await machine.end('SIGKILL')
    await machine.serve()
    broker.become('honest')
    t.is(await untilSettled(t), number + 1)
  },
)

for (const round of ['first', 'second', 'third', 'fourth']) {
  test.serial(
    `killed at any moment of a rotation, the machine has the key that the gateway has: ${round} time`,
    async (t) => {
      const { machine, stack, device } = t.context
      const before = await keyInForce(stack, device)
      for (const longest of [10, 60, 300]) {
        const asked = askToRotate(machine, 5_000)
        // Somewhere between intent, key, sending, result and switch.
        await pause(Math.random() * longest)
        await machine.end('SIGKILL')
        await checkNotLocked(t, 'killed')
        await asked
        await machine.serve()
      }
      t.true((await untilSettled(t)) >= before.number)
    },
  )
}

for (const round of ['once', 'twice', 'for the third time']) {
  test.serial(`a broker that admits, refuses, mutes and drops never costs the machine its key: ${round}`, async (t) => {
    const { machine, broker } = t.context
    const manners: readonly Manner[] = ['mute', 'admit', 'refuse', 'drop', 'honest']
    // The operation goes through, its result does not come back: the gateway has one key in force, this machine knows another.
    broker.become('mute', { hangUp: false })
    await askToRotate(machine, 1_000)
    for (let lies = 0; lies < 3; lies += 1) {
      const manner = manners[Math.floor(Math.random() * manners.length)] as Manner
      broker.become(manner)
      await pause(300 + Math.random() * 900)
      if (Math.random() < 0.4) {
        await machine.end('SIGKILL')
        await machine.serve()
      }
      await checkNotLocked(t, manner)
    }
    broker.become('honest')
    await untilSettled(t)
  })
}

test.serial('an owner who requires another key has it as soon as the daemon hears of it', async (t) => {
  const { machine, stack, device } = t.context
  const { number } = await keyInForce(stack, device)
  await machine.ask('gateway', 'rotate-device', device, '--within', '15m')
  await until(async () => (await keyInForce(stack, device)).number > number)
  t.is(await untilSettled(t), number + 1)
})

test.serial('a daemon does not start while the account’s runners are paused; one that runs shows it', async (t) => {
  const { machine, stack } = t.context
  const pauseRunners = (isPaused: boolean) =>
    withClient(stack.owner, (client) =>
      client.query(
        `INSERT INTO agents.workspace_settings (lenser_id, runner_paused) SELECT id, $1 FROM lensers.profiles WHERE subject = 'rita'
         ON CONFLICT (lenser_id) DO UPDATE SET runner_paused = excluded.runner_paused`,
        [isPaused],
      ),
    )
  await pauseRunners(true)
  await until(async () => (await machine.status()).code === 'workspace_paused')
  await machine.end('SIGTERM')
  const refused = await machine.lf(['gateway', 'serve'])
  t.is(refused.code, 5)
  t.regex(refused.stderr, /^workspace_paused: .*policy set --lenser-paused off/m)
  for (const words of [
    ['gateway', 'status'],
    ['run', '--', 'true'],
  ]) {
    const lost = await machine.lf(words)
    t.is(lost.code, 4)
    t.regex(lost.stderr, /^daemon_unreachable: .*workspace_paused: .*policy set --lenser-paused off/m)
  }
  await pauseRunners(false)
  await machine.serve()
  await untilSettled(t)
})

test.serial('reprove: the owner gives a running machine another key at once', async (t) => {
  const { machine } = t.context
  const before = identityOf(machine)
  const { number } = await keyInForce(t.context.stack, t.context.device)
  const told = await machine.ask<{ key_number: number; trust_level: string }>('gateway', 'identity', 'reprove')
  t.deepEqual([told.key_number, told.trust_level], [number + 1, 'approved'])
  t.is(await untilSettled(t), number + 1)
  t.not(identityOf(machine).public_key, before.public_key)
})

test.serial('reprove: without the daemon, and without the former key', async (t) => {
  const { machine } = t.context
  const { number } = await keyInForce(t.context.stack, t.context.device)
  await machine.end('SIGTERM')
  rmSync(join(machine.state, 'keys', `${identityOf(machine).key_name}.key`))
  const { stderr } = await machine.lf(['gateway', 'serve'])
  t.regex(stderr, /^key_missing: /m)
  t.is((await machine.ask('gateway', 'identity', 'reprove')).key_number, number + 1)
  await machine.serve()
  t.is(await untilSettled(t), number + 1)
})

test.serial('reprove: killed at any moment and taken again, it is one change and never a lock-out', async (t) => {
  const { machine } = t.context
  for (let round = 0; round < 4; round += 1) {
    if (round % 2 === 0) await machine.end('SIGKILL')
    await machine.lfKilled(['gateway', 'identity', 'reprove'], 300 + Math.random() * 900)
    await checkNotLocked(t, `round ${round}`)
    if (round % 2 === 0) await machine.serve()
  }
  const { number } = await keyInForce(t.context.stack, t.context.device)
  await machine.ask('gateway', 'identity', 'reprove')
  t.true([number, number + 1].includes(await untilSettled(t)))
})

test.serial('what becomes of a connection that was left says nothing of the one in its place', async (t) => {
  const { machine, broker } = t.context
  const { refused } = broker
  // Nobody there is told that the former key is cut: the daemon leaves for the new one first.
  const cut = broker.hold()
  await machine.ask('gateway', 'identity', 'reprove')
  await until(async () => !identityOf(machine).changes?.length, 'the new key')
  // Another key is kept, which the gateway was not asked for yet: of a refusal, keys take turns.
  await machine.askDaemon('identity.prepare', {})
  const { length } = machine.log
  cut()
  await until(async () => broker.refused > refused, 'that the former key is refused')
  const { connection, code } = await machine.status()
  t.deepEqual([connection, code], ['connected', null])
  t.false(machine.log.slice(length).includes('"event":"key_tried"'))

  broker.become('refuse')
  await until(async () => (await machine.status()).code === 'connection_refused')
  await until(async () => machine.log.slice(length).includes('"event":"key_tried"'), 'that keys take turns')
  broker.become('honest')
  await machine.ask('gateway', 'identity', 'reprove')
  await untilSettled(t)
})

test.serial('R7: starts and orderly stops are in the account’s chain, and refusals with their code', async (t) => {
  const { machine, stack, device } = t.context
  await machine.end('SIGTERM')
  const refused = await machine.lf(['gateway', 'serve', '--bind', '0.0.0.0'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /^public_bind_forbidden: /m)
  await machine.lf(['gateway', 'serve', '--bind', '::'])
  await machine.serve()
  const told = () =>
    withClient(stack.owner, async (client) => {
      const { rows } = await client.query(
        `SELECT payload -> 'lifecycle' ->> 'event' AS event, payload -> 'lifecycle' ->> 'code' AS code
           FROM audit.hash_chains WHERE device_id = $1 AND payload ? 'lifecycle' ORDER BY seq`,
        [device],
      )
      return rows as { event: string; code: string | null }[]
    })
  const refusals = async () => (await told()).filter(({ event }) => event === 'refusal')
  await until(async () => (await refusals()).some(({ code }) => code === 'public_bind_forbidden'))
  t.is((await refusals()).filter(({ code }) => code === 'public_bind_forbidden').length, 1, 'the same again is one')
  const events = (await told()).map(({ event }) => event)
  t.true(events.includes('start') && events.includes('stop'))
  t.true((await machine.ask<{ intact: boolean }>('gateway', 'audit', 'verify')).intact)
})
