import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectEdge } from '@lenserfight/bus'
import { createSettings, openStore } from '@lenserfight/daemon/client'
import { encodeKey, generateKeyPair, type KeyChange, newUuidV7, signKeyProof } from '@lenserfight/envelope'
import { openKeychain, readKeyPair } from '@lenserfight/keychain'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { makeSession } from '@lenserfight/testkit'
import { connectClient } from '@lenserfight/testkit/device'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { keyInForce } from './_keys.ts'
import { Machine, type Ran, until } from './_machine.ts'

/** Two people, a machine each, from enrolment to the end of one of them: the tests are steps of one story. */
const test = anyTest as TestFn<{ stack: Stack; alice: Machine; bob: Machine }>
let [aliceDevice, bobDevice, aliceRunner] = ['', '', '']

interface Device {
  device_id: string
  name: string
  trust_level: string
  fingerprint: string
  key_number: number
}
const deviceOf = async (machine: Machine, id: string): Promise<Device | undefined> =>
  (await machine.ask<{ devices: Device[] }>('gateway', 'devices')).devices.find(({ device_id }) => device_id === id)
const codeOf = ({ code, stderr }: Ran): [number | string | null, string | undefined] => [
  code,
  stderr.trim().split('\n').at(-1)?.split(':')[0],
]
const identityOf = (machine: Machine) => {
  const store = openStore(join(machine.state, 'state.db'))
  try {
    return createSettings(store).get('identity')
  } finally {
    store.close()
  }
}
const keysOf = async (machine: Machine) => {
  const keychain = await openKeychain({ fileFallback: '1', folder: join(machine.state, 'keys'), warn: () => {} })
  return readKeyPair(keychain, identityOf(machine)?.key_name as string)
}
/** What cannot be taken back is asked about. */
const yes = (verb: string): string[] => (verb === 'approve-device' || verb === 'revoke-device' ? ['--yes'] : [])
const rowsOf = <T extends object>(stack: Stack, text: string, values: unknown[]): Promise<T[]> =>
  withClient(stack.owner, async (client) => (await client.query<T>(text, values)).rows)

test.before('a stack, and a machine each', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  t.context = { stack, alice: new Machine(stack, 'alice'), bob: new Machine(stack, 'bob') }
})
test.after.always('nothing stays', async (t) => {
  await Promise.all([t.context.alice?.end('SIGTERM'), t.context.bob?.end('SIGTERM')])
  await t.context.stack?.stop()
})

test.serial('DA-4: two people enrol and approve a machine each, in under a minute', async (t) => {
  const { alice, bob } = t.context
  const begun = performance.now()
  ;[aliceDevice, bobDevice] = await Promise.all([alice.enrol('alice', 'laptop'), bob.enrol('bob', 'laptop')])
  t.log(`both enrolled, approved and alive after ${((performance.now() - begun) / 1000).toFixed(1)} s`)
  t.is((await deviceOf(alice, aliceDevice))?.trust_level, 'approved')
  t.is((await deviceOf(bob, bobDevice))?.trust_level, 'approved')
  t.is(await deviceOf(alice, bobDevice), undefined, 'nobody sees another’s')
  aliceRunner = (await alice.ask<{ runner_id: string }>('gateway', 'runners', 'bind', 'tool', '--device', aliceDevice))
    .runner_id
})

test.serial('DA-3: nobody approves, suspends, rotates or revokes across accounts', async (t) => {
  const { stack, bob } = t.context
  const verbs = ['approve-device', 'suspend-device', 'reinstate-device', 'rotate-device', 'revoke-device']
  for (const verb of verbs) {
    t.deepEqual(codeOf(await bob.lf(['gateway', verb, aliceDevice, ...yes(verb)])), [1, 'device_not_found'], verb)
  }
  // Past the command line, which knows its owner's devices alone: the gateway itself says no.
  const bobs = (await bob.ask<{ lenser_id: string }>('whoami')).lenser_id
  const signatory = await withClient(stack.owner, (client) => makeSession(client, bobs))
  const session = await connectClient({
    ...{ descriptor: stack.descriptor, keyList: stack.gatewayKeys.list, signatory },
    waitForGateway: true,
  })
  t.teardown(session.close)
  const { privateKey, publicKey } = generateKeyPair()
  const change: KeyChange = {
    kind: 'reprove',
    aud: stack.descriptor.gateway_id,
    device_id: aliceDevice,
    op_id: newUuidV7(),
    old_public_key: null,
    new_public_key: encodeKey(publicKey),
  }
  const { op_id, new_public_key } = change
  for (const say of [
    { kind: 'approve' },
    { kind: 'suspend' },
    { kind: 'reinstate' },
    { kind: 'rotation_require', within_seconds: 0 },
    { kind: 'reprove', op_id, new_public_key, proof: signKeyProof(change, privateKey) },
    { kind: 'revoke', reason: 'not mine', compromised_since: 0 },
  ] as const) {
    const { outcome } = await session.send({ ...say, device_id: aliceDevice })
    t.is(outcome.code, 'not_owner', say.kind)
  }
  t.is((await deviceOf(t.context.alice, aliceDevice))?.trust_level, 'approved')
})

test.serial(
  'a key is rotated while runs go on; the old one is dead, and old attestations have their key',
  async (t) => {
    const { stack, alice } = t.context
    const before = await deviceOf(alice, aliceDevice)
    const old = await keysOf(alice)
    const lenser = identityOf(alice)?.lenser as string
    const runs: Promise<Ran>[] = []
    for (let n = 0; n < 3; n += 1) runs.push(alice.lf(['run', '--', 'sh', '-c', `sleep 0.${n}; echo ${n}`]))
    const { key: rotated } = await alice.ask<{ key: { number: number; fingerprint: string } }>(
      'gateway',
      'identity',
      'rotate',
    )
    for (let n = 3; n < 6; n += 1) runs.push(alice.lf(['run', '--', 'echo', String(n)]))
    for (const [n, ran] of (await Promise.all(runs)).entries()) t.deepEqual([ran.code, ran.stdout], [0, `${n}\n`])

    const after = await deviceOf(alice, aliceDevice)
    t.is(rotated.number, 2)
    t.deepEqual([after?.key_number, after?.fingerprint, after?.trust_level], [2, rotated.fingerprint, 'approved'])
    t.not(after?.fingerprint, before?.fingerprint)
    const { url, gateway_id: gatewayId } = stack.descriptor
    const connect = (key: Uint8Array) => connectEdge({ url, gatewayId, kid: aliceDevice, lenser, key })
    await t.throwsAsync(connect(old.privateKey), { code: 'connection_refused' })
    await (await connect((await keysOf(alice)).privateKey)).close()

    const numbers = await rowsOf<{ key_number: number; matches: boolean }>(
      stack,
      `SELECT DISTINCT a.key_number, k.public_key = $2 AS matches FROM execution.attestations a
       JOIN devices.device_keys k ON k.device_id = a.device_id AND k.number = a.key_number
      WHERE a.device_id = $1 ORDER BY 1`,
      [aliceDevice, Buffer.from(old.publicKey)],
    )
    t.true(numbers.length >= 1)
    for (const { key_number, matches } of numbers) t.is(matches, key_number === 1)
  },
)

test.serial('a rotation that the owner demands is done by the daemon itself', async (t) => {
  const { stack, alice } = t.context
  await alice.ask('gateway', 'rotate-device', aliceDevice, '--within', '0s')
  await until(async () => (await keyInForce(stack, aliceDevice)).number === 3, 'the third key')
  t.is((await deviceOf(alice, aliceDevice))?.key_number, 3)
  t.is((await alice.lf(['run', '--', 'true'])).code, 0)
})

test.serial('suspended, a machine runs nothing; reinstated, it does again: "may prove itself again"', async (t) => {
  const { alice } = t.context
  await alice.ask('gateway', 'suspend-device', aliceDevice, '--reason', 'lost on a train')
  t.deepEqual(codeOf(await alice.lf(['run', '--', 'echo', 'this must not run'])), [5, 'device_unhealthy'])
  await alice.ask('gateway', 'reinstate-device', aliceDevice)
  await until(async () => (await alice.lf(['run', '--', 'true'])).code === 0, 'a run after reinstating')
  t.is((await deviceOf(alice, aliceDevice))?.trust_level, 'approved')
})

test.serial('revoked, a machine is out at once and for ever; what rested on its key falls', async (t) => {
  const { stack, alice, bob } = t.context
  const since = Math.floor(Date.now() / 1000)
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  const ran = await alice.lf(['run', '--json', '--runner', aliceRunner, '--', 'true'])
  const { run_id, level } = JSON.parse(ran.stderr.trim().split('\n').at(-1) ?? '') as { run_id: string; level: string }
  t.is(level, 'execution_verified')

  const inFlight = alice.lf(['run', '--', 'sh', '-c', 'while [ ! -e revoked ]; do sleep 0.05; done'])
  await until(
    async () =>
      (await rowsOf(stack, 'SELECT 1 FROM execution.runs WHERE device_id = $1 AND id > $2', [aliceDevice, run_id]))
        .length === 1,
    'the run in flight',
  )
  const time = new Date(since * 1000).toISOString()
  const revoke = ['gateway', 'revoke-device', aliceDevice, '--reason', 'stolen', '--compromised-since', time, '--yes']
  await alice.ask(...revoke)
  writeFileSync(join(alice.home, 'revoked'), '')
  t.deepEqual(codeOf(await alice.lf(['run', '--', 'echo', 'this must not run'])), [5, 'device_revoked'])
  const flown = await inFlight
  t.deepEqual([flown.code, flown.stderr.includes('device_revoked')], [0, true], flown.stderr)
  const { n } = (
    await rowsOf<{ n: number }>(
      stack,
      'SELECT count(*)::int AS n FROM execution.attestations WHERE device_id = $1 AND run_id > $2',
      [aliceDevice, run_id],
    )
  )[0] as { n: number }
  t.is(n, 0)
  const levelNow = async (): Promise<string | undefined> =>
    (
      await rowsOf<{ trust_level: string }>(
        stack,
        'SELECT trust_level FROM execution.trust_evaluations WHERE run_id = $1 ORDER BY id DESC LIMIT 1',
        [run_id],
      )
    )[0]?.trust_level
  await until(async () => (await levelNow()) === 'agent_verified', 'the verdict judged anew')

  for (const verb of ['approve-device', 'reinstate-device', 'suspend-device']) {
    t.is((await alice.lf(['gateway', verb, aliceDevice, ...yes(verb)])).code, 5, verb)
  }
  t.is((await bob.lf(['run', '--', 'true'])).code, 0, 'bob’s machine is none of this')
})

test.serial('R7: both chains verify and tell the story', async (t) => {
  const { stack, alice, bob } = t.context
  await bob.end('SIGTERM')
  for (const machine of [alice, bob]) {
    await until(async () => (await machine.ask<{ intact: boolean }>('gateway', 'audit', 'verify')).intact)
  }
  const eventsOf = async (device: string): Promise<string[]> =>
    (
      await rowsOf<{ event: string }>(
        stack,
        `SELECT DISTINCT event_kind || coalesce(' ' || (payload ->> 'to'), '') AS event
           FROM audit.hash_chains WHERE device_id = $1 ORDER BY 1`,
        [device],
      )
    ).map(({ event }) => event)
  const wanted = ['lifecycle', 'rotate', 'trust_transition approved', 'trust_transition pending']
  for (const event of [...wanted, 'trust_transition revoked', 'trust_transition unhealthy']) {
    t.true((await eventsOf(aliceDevice)).includes(event), event)
  }
  t.false((await eventsOf(bobDevice)).includes('trust_transition revoked'))
})
