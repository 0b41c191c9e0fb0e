import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSettings, openStore } from '@lenserfight/daemon/client'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { Machine, type Ran, until } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; alice: Machine }>
/** Alice's device, once it is registered: the tests are steps of one story. */
let device = ''

interface Device {
  device_id: string
  name: string
  trust_level: string
  fingerprint: string
  last_heartbeat_at: number | null
  daemon_version: string | null
}
const devicesOf = async (machine: Machine): Promise<Device[]> =>
  (await machine.ask<{ devices: Device[] }>('gateway', 'devices')).devices
const codeOf = ({ code, stderr }: Ran): [number | string | null, string | undefined] => [
  code,
  stderr.trim().split('\n').at(-1)?.split(':')[0],
]

test.before('a stack, and a machine of alice’s', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  t.context = { stack, alice: new Machine(stack, 'alice') }
})
test.after.always('nothing stays', async (t) => {
  await t.context.alice?.end('SIGTERM')
  await t.context.stack?.stop()
})

test.serial('DR-2: a machine is registered pending, under a key that it alone has', async (t) => {
  const { alice } = t.context
  t.deepEqual(codeOf(await alice.lf(['gateway', 'devices'])), [2, 'not_signed_in'])
  const { lenser_id } = await alice.login('alice')
  t.is((await alice.ask('whoami')).lenser_id, lenser_id)
  const made = await alice.ask<{ device_id: string; fingerprint: string }>(
    'gateway',
    'identity',
    'init',
    '--name',
    'laptop',
    '--type',
    'laptop',
  )
  const [listed] = await devicesOf(alice)
  t.deepEqual([listed?.device_id, listed?.name, listed?.trust_level], [made.device_id, 'laptop', 'pending'])
  t.is(listed?.fingerprint, made.fingerprint)
  device = made.device_id
  t.deepEqual(codeOf(await alice.lf(['gateway', 'identity', 'init'])), [1, 'already_enrolled'])
})

test.serial('a registration whose answer was lost is the same registration', async (t) => {
  const { alice } = t.context
  const store = openStore(join(alice.state, 'state.db'))
  const settings = createSettings(store)
  const {
    device_id: _,
    challenge: __,
    challenge_op: ___,
    registered_at: ____,
    public_key: _____,
    ...begun
  } = settings.get('identity') ?? ({} as never)
  settings.set('identity', begun)
  store.close()
  t.is((await alice.ask('gateway', 'identity', 'init', '--name', 'laptop', '--type', 'laptop')).device_id, device)
  t.is((await devicesOf(alice)).length, 1)
})

test.serial('DA-1: nobody approves a device that has not answered its challenge', async (t) => {
  const { alice } = t.context
  t.deepEqual(codeOf(await alice.lf(['gateway', 'approve-device', device, '--yes'])), [5, 'awaiting_device_challenge'])
  t.deepEqual(codeOf(await alice.lf(['gateway', 'approve-device', device])), [5, 'awaiting_device_challenge'])
})

test.serial('the daemon answers the challenge; while pending nothing runs', async (t) => {
  const { alice } = t.context
  await alice.serve()
  await alice.untilChallengeAnswered()
  t.true((await alice.lf(['gateway', 'devices'])).stdout.includes('ready to approve'))
  const ran = await alice.lf(['run', '--', 'echo', 'this must not run'])
  t.deepEqual([...codeOf(ran), ran.stdout], [5, 'device_pending', ''])
  t.deepEqual(codeOf(await alice.lf(['gateway', 'approve-device', device])), [1, 'usage'], 'not a terminal, no --yes')
  for (const answer of ['n', '', 'what?']) {
    const asked = await alice.lfOnTerminal(['gateway', 'approve-device', device], `${answer}\n`)
    t.is(asked.code, 1, answer)
    t.regex(asked.stdout, /SHA256:[\s\S]*Nothing was changed\./)
  }
  t.is((await devicesOf(alice))[0]?.trust_level, 'pending')
})

test.serial('DA-3: another account neither sees nor approves it', async (t) => {
  const { stack } = t.context
  const bob = new Machine(stack, 'bob')
  await bob.login('bob')
  t.deepEqual(await devicesOf(bob), [])
  t.deepEqual(codeOf(await bob.lf(['gateway', 'approve-device', device, '--yes'])), [1, 'device_not_found'])
})

test.serial('DA-4: approval makes it approved, and the daemon learns it by itself', async (t) => {
  const { alice } = t.context
  t.is((await alice.ask('gateway', 'approve-device', 'laptop', '--yes')).device_id, device)
  t.is((await devicesOf(alice))[0]?.trust_level, 'approved')
  await until(async () => (await alice.status()).trust_level === 'approved')
  const { daemon } = await alice.ask<{ daemon: { trust_level: string } }>('gateway', 'status')
  t.is(daemon.trust_level, 'approved', 'as lf gateway status shows')
})

test.serial('DH-2: heartbeats say when and which version', async (t) => {
  const { alice } = t.context
  await until(async () => (await alice.status()).last_heartbeat_at !== null)
  const [listed] = await devicesOf(alice)
  t.not(listed?.last_heartbeat_at ?? null, null)
  t.regex(String(listed?.daemon_version), /^\d+\.\d+\.\d+$/)
})

test.serial('a command runs as if alone, and the server derives its level', async (t) => {
  const { alice } = t.context
  const ran = await alice.lf(['run', '--', 'sort', '-r'], 'a\nc\nb\n')
  t.deepEqual([ran.code, ran.stdout], [0, 'c\nb\na\n'])
  t.regex(ran.stderr, /attested: account_verified\n/)
  t.regex(ran.stderr, /· agent_verified +not shown: the contender is an AI agent/)
  t.is((await alice.lf(['run', '--', 'sh', '-c', 'exit 7'])).code, 7)
})

test.serial('EA-3: with a runner, inputs and outputs it reaches execution_verified, level by level', async (t) => {
  const { alice, stack } = t.context
  const { runner_id } = await alice.ask<{ runner_id: string }>('gateway', 'runners', 'bind', 'nightly')
  writeFileSync(join(alice.home, 'in.txt'), 'in')
  const report = join(alice.home, 'report.json')
  const words = [
    '--runner',
    runner_id,
    '--input',
    'in.txt',
    '--output',
    'out.txt',
    '--output',
    'none.txt',
    '--report',
    report,
  ]
  const ran = await alice.lf(['run', ...words, '--', 'sh', '-c', 'tr i I < in.txt > out.txt; kill -TERM $$'])
  t.is(ran.code, null, 'died by the command’s signal')
  t.regex(ran.stderr, /output none.txt was not made/)
  const said = JSON.parse(readFileSync(report, 'utf8')) as Record<string, unknown>
  t.deepEqual(
    [said.state, said.level, said.reason, said.signal],
    ['done', 'execution_verified', 'workflow_hash', 'SIGTERM'],
  )
  const stored = await withClient(stack.owner, async (client) => {
    const found = await client.query('SELECT signal, inputs, outputs FROM execution.attestations WHERE run_id = $1', [
      said.run_id,
    ])
    return found.rows
  })
  t.deepEqual(stored, [{ signal: 'SIGTERM', inputs: said.inputs, outputs: said.outputs }])
  t.is((said.outputs as unknown[]).length, 1)
})

test.serial('a policy that denies keeps the command from running', async (t) => {
  const { alice, stack } = t.context
  const setDefault = (value: string) =>
    withClient(stack.owner, (client) =>
      client.query(
        `INSERT INTO agents.workspace_settings (lenser_id, approval_default) SELECT id, $1 FROM lensers.profiles WHERE subject = 'alice'
         ON CONFLICT (lenser_id) DO UPDATE SET approval_default = excluded.approval_default`,
        [value],
      ),
    )
  for (const [value, code] of [
    ['deny', 'policy_denied'],
    ['require_human', 'approval_required'],
  ] as const) {
    await setDefault(value)
    const ran = await alice.lf(['run', '--approval-wait', '0', '--', 'echo', 'this must not run'])
    t.deepEqual([...codeOf(ran), ran.stdout], [5, code, ''])
  }
  await setDefault('allow')
})

/** Runs a command that stands until `meanwhile` is done. */
const runWhile = async (machine: Machine, name: string, meanwhile: () => Promise<unknown>): Promise<Ran> => {
  const script = `touch ${name}.started; while [ ! -e ${name}.go ]; do sleep 0.05; done`
  const ran = machine.lf(['run', '--wait', '1', '--', 'sh', '-c', script])
  await until(async () => existsSync(join(machine.home, `${name}.started`)))
  await meanwhile()
  writeFileSync(join(machine.home, `${name}.go`), '')
  return ran
}
const queuedId = ({ stderr }: Ran): string => /lf gateway operation ([0-9a-f-]{36})/.exec(stderr)?.[1] ?? stderr

test.serial('a result that does not come in time is queued, and can be asked for', async (t) => {
  const { alice, stack } = t.context
  const pid = stack.workers('trust-evaluator')[0]?.pid as number
  const ran = await runWhile(alice, 'slow', async () => process.kill(pid, 'SIGSTOP'))
  process.kill(pid, 'SIGCONT')
  t.is(ran.code, 0, ran.stderr)
  const { stdout } = await alice.lf(['gateway', 'operation', queuedId(ran), '--wait', '30'])
  t.regex(stdout, /^attestation {2}done/)
})

test.serial('AU-4: the owner verifies the account’s audit chain', async (t) => {
  const { alice } = t.context
  await until(async () => {
    const { intact, entries } = await alice.ask<{ intact: boolean; entries: number }>('gateway', 'audit', 'verify')
    return intact && entries > 5
  })
  t.pass()
})

test.serial('a daemon that stops orderly exits 0; without one nothing runs; one that returns goes on', async (t) => {
  const { alice } = t.context
  t.is(await alice.end('SIGTERM'), 0)
  const ran = await alice.lf(['run', '--', 'echo', 'this must not run'])
  t.deepEqual([...codeOf(ran), ran.stdout], [4, 'daemon_unreachable', ''])
  await alice.serve()
  t.is((await alice.lf(['run', '--', 'true'])).code, 0)
})

test.serial('a report that cannot be written is told before anything runs', async (t) => {
  const { alice } = t.context
  for (const report of ['no/such/folder/report.json', alice.home]) {
    const ran = await alice.lf(['run', '--report', report, '--', 'echo', 'this must not run'])
    t.deepEqual([...codeOf(ran), ran.stdout], [1, 'usage', ''])
    t.true(ran.stderr.includes(`--report: ${report} `), ran.stderr)
  }
})

test.serial(
  'a daemon killed while a command runs loses nothing: the attestation is kept and sent by the next',
  async (t) => {
    const { alice } = t.context
    const ran = await runWhile(alice, 'killed', () => alice.end('SIGKILL'))
    t.is(ran.code, 0, ran.stderr)
    t.regex(
      ran.stderr,
      /its attestation is kept and not confirmed yet\. The daemon is gone: .*`lf gateway serve` runs again\./,
    )
    await alice.serve()
    const { stdout } = await alice.lf(['gateway', 'operation', queuedId(ran), '--wait', '30'])
    t.regex(stdout, /^attestation {2}done/)
  },
)

test.serial('a token for another key, and one of another issuer, sign nobody in', async (t) => {
  const { stack } = t.context
  const carol = new Machine(stack, 'carol')
  const gateway = join(stack.dir, 'gateway.json')
  const { nonce, audience } = await carol.ask<{ nonce: string; audience: string }>(
    'login',
    '--gateway',
    gateway,
    '--nonce',
  )
  const tokenFor = async (bound: string): Promise<string> => {
    const body = JSON.stringify({ client_secret: stack.issuer.clientSecret, subject: 'carol', nonce: bound, audience })
    const response = await fetch(`${stack.issuer.url}/token`, { method: 'POST', body })
    return ((await response.json()) as { id_token: string }).id_token
  }
  const other = await carol.lf(['login', '--token-file', '-'], await tokenFor('00000000-0000-8000-8000-000000000000'))
  t.deepEqual(codeOf(other), [2, 'token_not_bound'])
  const good = await tokenFor(nonce)
  t.deepEqual(codeOf(await carol.lf(['login', '--token-file', '-'], `${good.slice(0, -4)}AAAA`)), [2, 'token_invalid'])
  t.is((await carol.lf(['login', '--token-file', '-'], good)).code, 0)
  t.is((await carol.lf(['whoami'])).code, 0)
  t.is((await carol.lf(['logout'])).code, 0)
  t.deepEqual(codeOf(await carol.lf(['whoami'])), [2, 'not_signed_in'])
})

test.serial('a revoked machine runs nothing, for ever, and can be enrolled anew', async (t) => {
  const { alice } = t.context
  t.is((await alice.ask('gateway', 'revoke-device', 'laptop', '--reason', 'test', '--yes')).trust_level, 'revoked')
  const ran = await alice.lf(['run', '--', 'echo', 'this must not run'])
  t.deepEqual([...codeOf(ran), ran.stdout], [5, 'device_revoked', ''])
  await until(async () => (await alice.status()).trust_level === 'revoked')
  t.deepEqual(codeOf(await alice.lf(['gateway', 'identity', 'init', '--name', 'laptop'])), [1, 'daemon_running'])
  await alice.end('SIGTERM')
  const again = await alice.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', 'laptop')
  t.not(again.device_id, device)
})

test.serial('SH-1 SH-3: no key is anywhere but among the keys, and no log shows an envelope', async (t) => {
  const { alice } = t.context
  const keys = readdirSync(join(alice.state, 'keys')).map((name) =>
    readFileSync(join(alice.state, 'keys', name), 'utf8').trim(),
  )
  t.true(keys.length >= 2)
  const state = ['state.db', 'state.db-wal'].flatMap((name) => {
    try {
      return [readFileSync(join(alice.state, name), 'latin1')]
    } catch {
      return []
    }
  })
  const profile = readFileSync(join(alice.home, 'lf', 'lenserfight.json'), 'utf8')
  for (const key of keys) {
    for (const text of [...state, profile, alice.log])
      t.false(text.includes(key) || text.includes(Buffer.from(key, 'base64url').toString('latin1')))
  }
  t.notRegex(alice.log, /[A-Za-z0-9_-]{43,}/)
  t.notRegex(alice.log, /"(sig|nonce|body)"/)
})
