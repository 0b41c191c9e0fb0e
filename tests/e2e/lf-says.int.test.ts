import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { lfFile, Machine, until } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine; device: string }>

test.before('a machine that may run', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const machine = new Machine(stack, 'says')
  t.context = { stack, machine, device: '' }
  t.context.device = await machine.enrol('petra', 'bench')
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

test.serial('lf sessions names the machine that a session was made on', async (t) => {
  const { machine } = t.context
  const { sessions } = await machine.ask<{ sessions: { machine: string | null }[] }>('sessions')
  t.deepEqual(
    sessions.map((each) => each.machine),
    [hostname().slice(0, 64)],
  )
  const [header = '', row = ''] = (await machine.lf(['sessions'])).stdout.split('\n')
  t.is(row.slice(header.indexOf('MACHINE')).split(' ')[0], hostname().slice(0, 64))
})

test.serial('what is not found is said with how things are meant, and a device is approved once', async (t) => {
  const { machine } = t.context
  t.regex((await machine.lf(['api-keys', 'revoke', 'nope'])).stderr, /^session_not_found: .*\(nope: .*lf api-keys/)
  t.regex((await machine.lf(['gateway', 'approve-device', 'ben'])).stderr, /^device_not_found: .*first 8 characters/)
  const again = await machine.lf(['gateway', 'approve-device', 'bench'])
  t.is(again.code, 0, 'nobody is asked')
  t.is(again.stdout, 'approved: bench. It was approved already.\n')
})

test.serial('an operation that this machine does not know is called that', async (t) => {
  const { code, stderr } = await t.context.machine.lf(['gateway', 'operation', 'nothing'])
  t.is(code, 1)
  t.regex(stderr, /^unknown_operation: .*lf run.*\(nothing\)\n$/)
})

test.serial(
  'a suspended device is named where it is refused, and its reason said before it is let back in',
  async (t) => {
    const { machine, device } = t.context
    await machine.ask('gateway', 'suspend-device', 'bench', '--reason', 'left on a train')
    await until(async () => (await machine.status()).trust_level === 'unhealthy')
    const refused = await machine.lf(['run', '--', 'echo', 'this must not run'])
    t.deepEqual([refused.code, refused.stdout], [5, ''])
    t.regex(refused.stderr, new RegExp(`^device_unhealthy: .*reinstate-device.*bench, ${device}`))
    t.true((await machine.lf(['gateway', 'doctor'])).stdout.includes(`lf gateway reinstate-device ${device}`))
    const { code, stdout, stderr } = await machine.lf(['gateway', 'reinstate-device', 'bench'])
    t.is(code, 0, 'nobody is asked where the key is that of before')
    t.regex(stderr, /Level {7}unhealthy: .*left on a train\nSince {7}\d{4}-.* ago\n/)
    t.regex(stdout, /^approved: bench, which was .*left on a train\.\n$/)
    t.regex((await machine.lf(['gateway', 'reinstate-device', 'bench'])).stdout, /bench was not suspended/)
  },
)

test.serial('a device whose key was replaced while suspended is let back in by a word of its owner’s', async (t) => {
  const { machine, device } = t.context
  await until(async () => (await machine.status()).trust_level === 'approved')
  await machine.ask('gateway', 'suspend-device', 'bench', '--reason', 'lent to somebody')
  await until(async () => (await machine.status()).trust_level === 'unhealthy')
  t.is((await machine.ask('gateway', 'identity', 'rotate')).done, true)
  t.regex((await machine.lf(['gateway', 'devices'])).stdout, /lent to somebody.*key changed since then/)
  const unasked = await machine.lf(['gateway', 'reinstate-device', 'bench'])
  t.is(unasked.code, 1)
  t.regex(unasked.stderr, /lent to somebody[\s\S]*Key changed .*after it was stopped[\s\S]*usage: .*--yes/)
  const no = await machine.lfOnTerminal(['gateway', 'reinstate-device', 'bench'], 'n\n')
  t.is(no.code, 1)
  t.regex(no.stdout, /replaced while it was suspended[\s\S]*Nothing was changed/)
  t.is((await machine.status()).trust_level, 'unhealthy')
  const yes = await machine.lf(['gateway', 'reinstate-device', device, '--yes'])
  t.is(yes.code, 0)
  t.regex(yes.stdout, /^approved: bench, .*lent to somebody\.\nIts key was replaced meanwhile\./)
})

test.serial(
  'device_key_changed: a key that is replaced while its owner thinks about another lets nothing back in',
  async (t) => {
    const { machine } = t.context
    await until(async () => (await machine.status()).trust_level === 'approved')
    await machine.ask('gateway', 'suspend-device', 'bench')
    await until(async () => (await machine.status()).trust_level === 'unhealthy')
    t.is((await machine.ask('gateway', 'identity', 'rotate')).done, true)
    const asked = spawn('script', ['-qec', `${lfFile} gateway reinstate-device bench`, '/dev/null'], {
      ...{ env: machine.env, cwd: machine.home },
    })
    let told = ''
    asked.stdout.setEncoding('utf8').on('data', (text: string) => {
      told += text
    })
    await until(async () => told.includes('[y/N]'))
    t.is((await machine.ask('gateway', 'identity', 'rotate')).done, true)
    asked.stdin.write('y\n')
    await until(async () => asked.exitCode !== null)
    t.regex(told, /device_key_changed\S*: .*lf gateway devices/)
    t.is((await machine.status()).trust_level, 'unhealthy')
    t.is((await machine.lf(['gateway', 'reinstate-device', 'bench', '--yes'])).code, 0)
  },
)

test.serial('a daemon logs where it stands when that changes, and not at each look', async (t) => {
  const { machine } = t.context
  await until(async () => (await machine.status()).trust_level === 'approved')
  await machine.ask('gateway', 'suspend-device', 'bench')
  await until(async () => (await machine.status()).trust_level === 'unhealthy')
  // Each run that is refused had the daemon look anew first.
  for (let looks = 0; looks < 2; looks++) t.is((await machine.lf(['run', '--', 'true'])).code, 5)
  await machine.ask('gateway', 'reinstate-device', 'bench')
  await until(async () => (await machine.status()).trust_level === 'approved')
  const standings = machine.log
    .split('\n')
    .filter((line) => line.includes('"event":"standing"'))
    .map((line) => JSON.parse(line) as { trust_level?: string; code?: string })
    .map(({ trust_level, code }) => `${trust_level} ${code}`)
  t.true(standings.includes('pending device_pending') && standings.includes('approved undefined'), `${standings}`)
  t.deepEqual(
    standings.filter((each, index) => each === standings[index - 1]),
    [],
  )
})

test.serial('lf run says that it waits for a gateway that hangs, and gives up with nothing run', async (t) => {
  const { machine, stack } = t.context
  await until(async () => (await machine.status()).trust_level === 'approved')
  const { nats } = JSON.parse(readFileSync(join(stack.dir, 'stack.json'), 'utf8')) as { nats: { pid: number } }
  process.kill(nats.pid, 'SIGSTOP')
  t.teardown(() => process.kill(nats.pid, 'SIGCONT'))
  const { code, stdout } = await machine.lfOnTerminal(['run', '--', 'touch', 'ran'], '')
  t.is(code, 1)
  t.regex(stdout, /no permit for this run yet; waiting up to 15 s\. Nothing has run/)
  t.regex(stdout, /(answer_timeout|gateway_unreachable)\S*: .*nothing was run; `lf gateway doctor`/)
  const whoami = await machine.lfOnTerminal(['whoami'], '')
  t.regex(whoami.stdout, /has not answered yet; waiting/)
})
