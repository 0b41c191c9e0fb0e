import { join } from 'node:path'
import { takeInstanceLock } from '@lenserfight/daemon/client'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { makeLegacyDevice } from '@lenserfight/testkit'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { Machine, type Ran } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine }>

interface Device {
  device_id: string
  name: string
  trust_level: string
  trust_reason: string | null
  fingerprint: string | null
  words: string | null
  legacy?: boolean
  key_expires_at: number | null
}
/** The tests are steps of one story. */
let device = ''
let account = ''

const list = async ({ machine }: { machine: Machine }, ...words: string[]): Promise<Device[]> =>
  (await machine.ask<{ devices: Device[] }>('gateway', 'devices', ...words)).devices
const own = async (context: { machine: Machine }): Promise<Device> =>
  (await list(context)).find(({ device_id }) => device_id === device) as Device
const codeOf = ({ code, stderr }: Ran): [number | string | null, string | undefined] => [
  code,
  stderr.trim().split('\n').at(-1)?.split(':')[0],
]

test.before('a stack, and a machine that is registered', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  t.context = { stack, machine: new Machine(stack, 'dana') }
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

test.serial('the words of a key are the same on the machine and before its owner', async (t) => {
  const { machine } = t.context
  account = String((await machine.login('dana')).lenser_id)
  t.is((await machine.lf(['gateway', 'devices', '--pending'])).stdout, 'No device awaits approval.\n')
  const init = ['gateway', 'identity', 'init', '--name', 'build']
  const leave = takeInstanceLock(join(machine.state, 'daemon.lock'))
  t.deepEqual(codeOf(await machine.lf(init)), [1, 'daemon_running'], 'two at once would take it from each other')
  leave()
  const made = await machine.ask<{ device_id: string; words: string }>(...init)
  t.deepEqual(codeOf(await machine.lf(init)), [1, 'already_enrolled'])
  device = made.device_id
  t.regex(made.words, /^([a-z]{3,8} ){7}[a-z]{3,8}$/)
  t.is((await machine.ask('gateway', 'identity', 'show')).words, made.words)
  t.is((await own(t.context)).words, made.words)
  const { stdout } = await machine.lf(['gateway', 'devices', '--pending'])
  t.true(stdout.includes(`Words       ${made.words}\n`))
  t.regex(stdout, /Level {7}pending, awaits its daemon\n.*Next {8}`lf gateway serve` on that machine/s)
})

test.serial(
  'DA-4: approval flips pending to approved and keeps the public key, as lf gateway devices shows',
  async (t) => {
    const { machine } = t.context
    const began = performance.now()
    await machine.serve()
    await machine.untilChallengeAnswered()
    t.true((await machine.lf(['gateway', 'devices', '--pending'])).stdout.includes('ready to approve'))
    const { fingerprint, words } = await own(t.context)
    const asked = await machine.lfOnTerminal(['gateway', 'approve-device', 'build'], 'y\n')
    t.is(asked.code, 0)
    const said = asked.stdout.replaceAll('\r', '')
    for (const line of [/Name {8}build\n/, /OS {10}\S/, /Registered {2}\d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC, \d+ s ago/]) {
      t.regex(said, line)
    }
    t.true(said.indexOf(`Words       ${words}`) < said.indexOf('Does that machine show these eight words'))
    t.log(`enrolled and approved in ${((performance.now() - began) / 1000).toFixed(1)} s`)
    const approved = await own(t.context)
    t.deepEqual([approved.trust_level, approved.fingerprint, approved.words], ['approved', fingerprint, words])
    const { public_key } = await machine.ask<{ public_key: string }>('gateway', 'identity', 'show')
    const { rows } = await withClient(t.context.stack.owner, (client) =>
      client.query<{ public_key: Buffer }>('SELECT public_key FROM devices.registered_devices WHERE id = $1', [device]),
    )
    t.is(rows[0]?.public_key.toString('base64url'), public_key)
  },
)

test.serial('a device is meant by its id, by what only its id begins with, and by its name', async (t) => {
  const { machine } = t.context
  for (const given of [device, 'build', device.slice(0, 30), device.slice(0, 13)]) {
    t.is((await machine.ask('gateway', 'approve-device', given, '--yes')).device_id, device, given)
  }
  for (const given of ['nobody', device.slice(0, 7), `${device.slice(0, 35)}x`]) {
    t.deepEqual(codeOf(await machine.lf(['gateway', 'revoke-device', given, '--yes'])), [1, 'device_not_found'], given)
  }
  t.is((await own(t.context)).trust_level, 'approved')
})

test.serial('a device that its owner suspends may prove itself again', async (t) => {
  const { machine } = t.context
  const suspended = await machine.lf(['gateway', 'suspend-device', 'build', '--reason', 'left on a train'])
  t.is(suspended.code, 0)
  t.regex(suspended.stdout, /^suspended: build .*\nIt may prove itself again: `lf gateway reinstate-device /)
  const { trust_level, trust_reason } = await own(t.context)
  t.is(trust_level, 'unhealthy')
  t.regex(trust_reason ?? '', /left on a train/)
  t.regex((await machine.lf(['gateway', 'devices'])).stdout, /unhealthy: .*left on a train/)
  const doctor = await machine.lf(['gateway', 'doctor', '--check', 'identity'])
  t.is(doctor.code, 3)
  t.regex(doctor.stdout, /✗ identity +device_unhealthy: .*left on a train.*reinstate-device/)
  await machine.ask('gateway', 'reinstate-device', device.slice(0, 20))
  t.is((await own(t.context)).trust_level, 'approved')
})

test.serial('a device is told to change its key within a time that its owner names', async (t) => {
  const { machine } = t.context
  const before = (await own(t.context)).key_expires_at ?? 0
  const { key_expires_at: end } = await machine.ask<{ key_expires_at: number }>(
    ...['gateway', 'rotate-device', 'build', '--within', '10d'],
  )
  t.true(end < before)
  t.true(Math.abs(end - (Date.now() / 1000 + 10 * 24 * 3600)) < 60)
  t.deepEqual(codeOf(await machine.lf(['gateway', 'rotate-device', 'build', '--within', '31d'])), [1, 'usage'])
})

test.serial('a device without a key is approved in one step, and said to sign nothing', async (t) => {
  const { machine, stack } = t.context
  const legacy = await withClient(stack.owner, (client) => makeLegacyDevice(client, account))
  const pending = await machine.lf(['gateway', 'devices', '--pending'])
  t.regex(
    pending.stdout,
    /Level {7}pending, without a key\nKey {9}none: it can sign nothing\nNext {8}`lf gateway approve/,
  )
  const asked = await machine.lfOnTerminal(['gateway', 'approve-device', legacy], 'n\n')
  t.regex(asked.stdout, /imported without a key, so nothing proves which machine it is/)
  t.is(asked.code, 1)
  const approved = await machine.lf(['gateway', 'approve-device', legacy, '--yes'])
  t.regex(approved.stdout, /^approved: legacy .*approved in one step, without a key, and cannot sign\.\n$/)
  const shown = (await list(t.context)).find(({ device_id }) => device_id === legacy)
  t.deepEqual([shown?.trust_level, shown?.legacy, shown?.fingerprint, shown?.words], ['approved', true, null, null])
})

test.serial(
  'a device that its owner revokes never comes back, and what it attested since it was compromised falls',
  async (t) => {
    const { machine } = t.context
    const later = await machine.lf(['gateway', 'revoke-device', 'build', '--yes', '--compromised-since', '2999-01-01'])
    t.deepEqual(codeOf(later), [1, 'usage'])
    const asked = await machine.lfOnTerminal(['gateway', 'revoke-device', 'build', '--compromised-since', '2h'], 'n\n')
    t.is(asked.code, 1)
    t.regex(
      asked.stdout,
      /Never again: .*since \d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC \(\d+ (min|h) ago\).*those verdicts fall/s,
    )
    t.is((await own(t.context)).trust_level, 'approved')
    const revoked = await machine.lf(['gateway', 'revoke-device', 'build', '--yes', '--compromised-since', '2h'])
    t.regex(revoked.stdout, /^revoked: build, for ever\.\n$/)
    t.regex(revoked.stderr, /Never again/)
    t.is((await own(t.context)).trust_level, 'revoked')
    t.deepEqual(codeOf(await machine.lf(['gateway', 'reinstate-device', device])), [5, 'device_revoked'])
    t.deepEqual(codeOf(await machine.lf(['gateway', 'approve-device', device, '--yes'])), [5, 'device_revoked'])
    const { rows } = await withClient(t.context.stack.owner, (client) =>
      client.query(
        'SELECT extract(epoch FROM now() - since)::int AS ago FROM devices.compromises WHERE device_id = $1',
        [device],
      ),
    )
    t.is(rows.length, 1)
    t.true(Math.abs((rows[0]?.ago as number) - 7200) < 120)
  },
)
