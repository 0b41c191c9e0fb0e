import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { testStack } from '@lenserfight/testkit/stack'
import test from 'ava'
import { Machine, until } from './_machine.ts'

interface Device {
  device_id: string
  trust_level: string
  trust_reason: string | null
  key_number: number
}

test('a machine restored from a backup is noticed at its first words, and one command of its owner’s brings it back', async (t) => {
  t.timeout(180_000)
  const stack = await testStack()
  t.teardown(stack.stop)
  await stack.whenReady()
  const alice = new Machine(stack, 'alice')
  t.teardown(() => alice.end('SIGTERM'))
  const device = await alice.enrol('alice', 'laptop')
  const own = async (): Promise<Device | undefined> =>
    (await alice.ask<{ devices: Device[] }>('gateway', 'devices')).devices.find((each) => each.device_id === device)

  const state = join(alice.state, 'state.db')
  await alice.end('SIGTERM')
  copyFileSync(state, join(alice.home, 'backup.db'))
  await alice.serve()
  for (let n = 0; n < 3; n += 1) t.is((await alice.lf(['run', '--', 'true'])).code, 0)
  await alice.end('SIGTERM')
  t.is((await own())?.trust_level, 'approved', 'stopping and starting alone is no fork')

  copyFileSync(join(alice.home, 'backup.db'), state)
  for (const rest of ['state.db-wal', 'state.db-shm']) rmSync(join(alice.state, rest), { force: true })
  await alice.serve()
  await until(async () => (await alice.status()).trust_level === 'unhealthy', 'the restored state is noticed')
  const forked = await own()
  t.deepEqual([forked?.trust_level, forked?.trust_reason], ['unhealthy', 'identity_forked'])
  t.is((await alice.lf(['run', '--', 'echo', 'this must not run'])).code, 5)
  const doctor = await alice.lf(['gateway', 'doctor', '--json', '--check', 'identity'])
  const { checks } = JSON.parse(doctor.stdout) as { checks: { code: string; fix: string }[] }
  t.deepEqual([doctor.code, checks[0]?.code], [3, 'identity_forked'])
  t.regex(checks[0]?.fix ?? '', /lf gateway identity reprove/)
  t.is((await alice.lf(['gateway', 'reinstate-device', device])).code, 5, 'its owner’s word alone does not do')

  t.is((await alice.ask<{ trust_level: string }>('gateway', 'identity', 'reprove')).trust_level, 'approved')
  await until(async () => (await alice.lf(['run', '--', 'true'])).code === 0, 'it runs again')
  t.deepEqual([(await own())?.trust_level, (await own())?.key_number], ['approved', 2])
})
