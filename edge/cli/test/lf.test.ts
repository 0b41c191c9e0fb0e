import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openState, readEdgeConfig } from '@lenserfight/daemon/client'
import { encodeKey, generateKeyPair, newUuidV7 } from '@lenserfight/envelope'
import { CodedError, reasonCodes, reasonOf } from '@lenserfight/schemas'
import { logOutput } from '@lenserfight/testkit'
import test from 'ava'
import { createCli } from '../src/cli.ts'
import { failureOf, tableOf } from '../src/output.ts'

const lfFile = fileURLToPath(new URL('../bin/lf', import.meta.url))
const homes: string[] = []
const newHome = (): string => {
  const home = mkdtempSync(join(tmpdir(), 'lf-cli-'))
  homes.push(home)
  return home
}
test.after.always('nothing stays', () => {
  for (const home of homes) rmSync(home, { recursive: true, force: true })
})

const lf = (
  words: string,
  { home = newHome(), env = {}, input = '' }: { home?: string; env?: object; input?: string } = {},
) => {
  // With what the run's other processes compiled: each home of its own would have all of it compiled again.
  const { PATH, NODE_COMPILE_CACHE } = process.env
  const own = { LENSERFIGHT_HOME: join(home, 'lf'), LF_GATEWAY_KEY_FILE_FALLBACK: '1' }
  const full = { PATH, NODE_COMPILE_CACHE, ...own, ...env }
  const { status, stdout, stderr } = spawnSync(lfFile, words.split(' ').filter(Boolean), {
    ...{ env: full, input, cwd: home, encoding: 'utf8', timeout: 30_000 },
  })
  logOutput('lf-cli', words.includes('--nonce') ? stderr : stdout + stderr)
  const told = stderr.split('\n').filter((line) => !line.startsWith('WARNING:'))
  return { status, stdout, stderr: told.join('\n') }
}

/** A machine that is enrolled, with no daemon and no gateway. */
const enrolledHome = (): string => {
  const home = newHome()
  const config = readEdgeConfig({ LENSERFIGHT_HOME: join(home, 'lf') })
  mkdirSync(config.profileFolder, { mode: 0o700 })
  const { store, settings } = openState(config)
  const uuid = '00000000-0000-4000-8000-00000000000a'
  settings.set('identity', {
    ...{ key_name: 'device-1', op_id: newUuidV7(), name: 'this-machine', device_type: 'ci', os: 'x' },
    ...{ gateway_id: uuid, lenser: uuid, device_id: uuid, challenge_op: newUuidV7() },
    ...{ public_key: encodeKey(generateKeyPair().publicKey), challenge: 'AAAAAAAAAAAAAAAAAAAAAA' },
  })
  store.close()
  return home
}

const commands = [
  'login',
  'logout',
  'whoami',
  'sessions',
  'sessions revoke',
  'api-keys',
  'api-keys create',
  'api-keys revoke',
  'run',
  'config list',
  'config get',
  'config set',
  'config unset',
  'gateway devices',
  'gateway approve-device',
  'gateway revoke-device',
  'gateway suspend-device',
  'gateway reinstate-device',
  'gateway rotate-device',
  'gateway runners',
  'gateway runners bind',
  'gateway runners unbind',
  'gateway approvals',
  'gateway approvals approve',
  'gateway approvals deny',
  'gateway policy show',
  'gateway policy test',
  'gateway policy set',
  'gateway explain',
  'gateway objects list',
  'gateway objects get',
  'gateway objects set',
  'gateway objects delete',
  'gateway objects undelete',
  'gateway objects discard',
  'gateway sync status',
  'gateway sync resolve',
  'gateway sync undo',
  'gateway identity init',
  'gateway identity show',
  'gateway identity export-public',
  'gateway identity rotate',
  'gateway identity reprove',
  'gateway serve',
  'gateway status',
  'gateway doctor',
  'gateway operation',
  'gateway audit verify',
]

/** The grammar alone, without a process: which command was chosen, or what was not understood. */
const understand = async (words: string): Promise<string | undefined> => {
  const argv = words.split(' ').filter(Boolean)
  const refuse = (message: string): never => {
    throw new CodedError('usage', message)
  }
  try {
    await createCli(argv, () => {}, refuse).parseAsync()
    return undefined
  } catch (error) {
    return (error as CodedError).code
  }
}

test.serial('every command has help with an example, and takes --json', async (t) => {
  for (const command of commands) {
    const help = await createCli(
      command.split(' '),
      () => t.fail(),
      () => t.fail() as never,
    ).getHelp()
    t.regex(help, new RegExp(`^lf ${command}`), command)
    t.regex(help, /Examples:\n {2}lf /, command)
    t.regex(help, /--json/, command)
  }
  const { status, stdout, stderr } = lf('run --help')
  t.deepEqual([status, stderr, stdout.split('\n')[0]], [0, '', 'lf run [options] -- COMMAND…'])
})

test.serial('what is not understood is usage, exit code 1, on standard error', async (t) => {
  const wrong = [
    '',
    'nope',
    'gateway',
    'gateway nope',
    'gateway approve-device',
    'login --as x',
    'run --wait x -- true',
  ]
  for (const words of wrong) t.is(await understand(words), 'usage', words)
  t.is(await understand('run --json -- nope --nope'), undefined)
  for (const words of ['run true', 'run --']) {
    const { status, stdout, stderr } = lf(words)
    t.deepEqual([status, stdout], [1, ''], words)
    t.regex(stderr, /^usage: .+\n$/, words)
  }
})

test.serial('who names no command is shown which there are', (t) => {
  for (const [words, command] of [
    ['', 'lf run'],
    ['gateway', 'lf gateway approve-device <id>'],
    ['gateway identity', 'lf gateway identity init'],
  ] as const) {
    const { status, stdout, stderr } = lf(words)
    t.deepEqual([status, stdout], [1, ''], words)
    t.true(stderr.includes(`\n  ${command} `), words)
    t.regex(stderr, /\nusage: .+\n$/, words)
  }
  t.is(JSON.parse(lf('gateway --json').stdout).code, 'usage')
  t.regex(lf('--version').stdout, /^\d+\.\d+\.\d+\n$/)
})

test.serial('what is wrong is said in words of the command line', (t) => {
  for (const [words, said] of [
    ['run make test', /give the command after --/],
    ['gateway approve-device', /<id> is missing: lf gateway approve-device <id>/],
    ['gateway policy set', /say what to set/],
    ['gateway policy set --daily-runs many', /whole number from 0 to 1000000.*many/],
    ['gateway approvals --watch', /--watch is for a terminal/],
    ['gateway devices --trust nobody', /Choices: "pending"/],
    ['run --contender nightly -- true', /an id is needed.*nightly/],
    ['run --submission 1 -- true', /an id is needed/],
  ] as const) {
    const { status, stderr } = lf(words)
    t.is(status, 1, words)
    t.regex(stderr, said, words)
    t.notRegex(stderr, /\ufffd|envelope/, words)
  }
})

test.serial('standard output stays the command’s where none ran, and no earlier report is left', (t) => {
  const home = newHome()
  const report = join(home, 'report.json')
  writeFileSync(report, '{"ok":true}')
  const { status, stdout, stderr } = lf(`run --json --report ${report} -- echo this must not run`, { home })
  t.deepEqual([status, stdout], [5, ''])
  t.is(JSON.parse(stderr.trimEnd().split('\n').at(-1) as string).code, 'not_enrolled')
  t.deepEqual(JSON.parse(readFileSync(report, 'utf8')), { ok: false, state: 'not_run', code: 'not_enrolled' })
})

test.serial('exit code 2: what needs a session says so', (t) => {
  for (const words of ['whoami', 'gateway identity init']) {
    const { status, stderr } = lf(words)
    t.is(status, 2, words)
    t.regex(stderr, /^not_signed_in: .*lf login/, words)
  }
})

test.serial('exit code 5: a machine that is not enrolled runs nothing', (t) => {
  const { status, stdout, stderr } = lf('run -- echo this must not run')
  t.deepEqual([status, stdout], [5, ''])
  t.regex(stderr, /^not_enrolled: /)
  t.is(lf('gateway status').status, 5)
  t.is(lf('gateway identity show').status, 5)
})

test.serial('DG-1: the doctor finds what a new machine lacks, makes nothing, and is exit code 3', (t) => {
  const home = newHome()
  const { status, stdout } = lf('gateway doctor', { home })
  t.is(status, 3)
  t.regex(stdout, /\n✗ identity +not_enrolled: .*\n/)
  t.regex(stdout, /This machine is new here: `lf login`, then `lf gateway identity init`\.\n$/)
  t.regex(stdout, /\n✗ transport +descriptor_missing: .*knows no gateway yet.*`lf login`/)
  t.false(existsSync(join(home, 'lf', 'gateway', 'state.db')))
  const only = lf('gateway doctor --json --check config,daemon', { home })
  const { ok, checks } = JSON.parse(only.stdout) as { ok: boolean; checks: { check: string; code: string | null }[] }
  t.deepEqual([only.status, ok], [3, false])
  t.deepEqual(
    checks.map(({ check, code }) => [check, code]),
    [
      ['daemon', 'not_enrolled'],
      ['config', null],
    ],
  )
  t.is(lf('gateway doctor --check config', { home }).status, 0)
})

test.serial('SH-4: the doctor finds a service_role credential, and says where without saying what', (t) => {
  const { status, stdout } = lf('gateway doctor --json', { env: { SOME_VARIABLE: 'sb_secret_abcdefgh' } })
  const { checks } = JSON.parse(stdout) as { checks: { check: string; ok: boolean; code: string; detail: string }[] }
  t.is(status, 3)
  t.true(checks.every(({ ok, code }) => !ok && code === 'service_role_in_daemon'))
  t.is(checks.find(({ check }) => check === 'config')?.detail, 'environment: SOME_VARIABLE')
  t.false(stdout.includes('sb_secret_'))
})

test.serial('exit code 4: without a daemon nothing runs', (t) => {
  const home = enrolledHome()
  const { status, stdout, stderr } = lf('run -- echo this must not run', { home })
  t.deepEqual([status, stdout], [4, ''])
  t.regex(stderr, /^daemon_unreachable: .*lf gateway serve/)
  const known = lf('gateway status', { home })
  t.is(known.status, 4)
  t.regex(known.stdout, /this-machine/)
  t.is(lf('gateway operation x', { home }).status, 4)
})

test.serial('--json tells a failure as one object on standard output', (t) => {
  for (const [words, code] of [
    ['whoami --json', 'not_signed_in'],
    ['gateway status --json', 'not_enrolled'],
    ['nope --json', 'usage'],
  ] as const) {
    const { stdout } = lf(words)
    const told = JSON.parse(stdout) as { ok: boolean; code: string; message: string }
    t.deepEqual([told.ok, told.code], [false, code])
    t.true(told.message.length > 0)
  }
})

test.serial('a command that cannot be run is told before anything is asked', (t) => {
  const home = enrolledHome()
  const missing = lf('run -- no-such-command-anywhere', { home })
  t.deepEqual([missing.status, missing.stderr.split(':')[0]], [127, 'command_not_found'])
  writeFileSync(join(home, 'plain'), '', { mode: 0o600 })
  const plain = lf('run -- ./plain', { home })
  t.deepEqual([plain.status, plain.stderr.split(':')[0]], [126, 'command_not_executable'])
  const input = lf('run --input missing.txt -- true', { home })
  t.deepEqual([input.status, input.stderr.split(':')[0]], [1, 'input_unreadable'])
})

test.serial('what follows -- is the command’s, whatever it looks like', (t) => {
  const home = enrolledHome()
  t.is(lf('run -- true --help --json 007', { home }).status, 4)
})

test.serial('login says what it lacks', (t) => {
  t.regex(lf('login').stderr, /^descriptor_missing: /)
  t.regex(lf('login --dev').stderr, /^descriptor_missing: .*npm start/)
  const home = newHome()
  writeFileSync(join(home, 'bad.json'), '{"url":"x"}')
  t.regex(lf('login --gateway bad.json', { home }).stderr, /^descriptor_invalid: /)
  const root_key = encodeKey(generateKeyPair().publicKey)
  const gateway_id = '00000000-0000-4000-8000-00000000000a'
  writeFileSync(join(home, 'good.json'), JSON.stringify({ url: 'nats://127.0.0.1:9', gateway_id, root_key }))
  t.regex(lf('login --gateway good.json', { home }).stderr, /^usage: .*--token-file/)
  t.regex(lf('login --token-file -', { home, input: 'no token' }).stderr, /^token_invalid: /)
  t.regex(lf('login --token-file -', { home, input: 'a.b.c' }).stderr, /^gateway_unreachable: /)
  const nonce = lf('login --nonce', { home }).stdout
  t.is(lf('login --nonce', { home }).stdout, nonce)
  writeFileSync(
    join(home, 'other.json'),
    JSON.stringify({ url: 'nats://127.0.0.1:9', gateway_id, root_key: encodeKey(generateKeyPair().publicKey) }),
  )
  t.regex(lf('login --gateway other.json --nonce', { home }).stderr, /^descriptor_changed: /)
  t.is(lf('logout', { home }).status, 0)
  t.not(lf('login --nonce', { home }).stdout, nonce)
})

test.serial('without a keychain nobody signs in', (t) => {
  const home = newHome()
  const gateway_id = '00000000-0000-4000-8000-00000000000a'
  const descriptor = { url: 'nats://127.0.0.1:9', gateway_id, root_key: encodeKey(generateKeyPair().publicKey) }
  writeFileSync(join(home, 'good.json'), JSON.stringify(descriptor))
  const env = { LF_GATEWAY_KEY_FILE_FALLBACK: '' }
  t.regex(lf('login --gateway good.json --nonce', { home, env }).stderr, /^keychain_unavailable: /)
})

test.serial('SH-4: the command line refuses a service_role credential too', (t) => {
  const { status, stderr } = lf('gateway status', { env: { SUPABASE_SERVICE_ROLE_KEY: 'x' } })
  t.is(status, 1)
  t.regex(stderr, /^service_role_in_daemon: /)
})

test.serial('there are no colours but on a terminal', (t) => {
  t.false(lf('whoami').stderr.includes('\u001b'))
})

test.serial('login --dev believes no stack that somebody else may have put in the way', async (t) => {
  const home = newHome()
  mkdirSync(join(home, '.local'))
  const file = join(home, '.local', 'stack.json')
  const stranger = generateKeyPair()
  const descriptor = { url: 'nats://127.0.0.1:9', gateway_id: newUuidV7(), root_key: encodeKey(stranger.publicKey) }
  writeFileSync(join(home, 'gateway.json'), JSON.stringify(descriptor))
  const stack = {
    issuer: { url: 'http://127.0.0.1:9', client_secret: 'x' },
    gateway: { descriptor: join(home, 'gateway.json') },
  }
  writeFileSync(file, JSON.stringify(stack), { mode: 0o644 })
  chmodSync(file, 0o644)
  t.regex(lf('login --dev', { home }).stderr, /insecure_permissions/)
  chmodSync(file, 0o600)
  t.regex(lf('login --dev', { home }).stderr, /gateway_unreachable/, 'one of our own is believed')
  if (process.getuid?.() !== 0) return
  chownSync(file, 65534, 65534)
  t.regex(lf('login --dev', { home }).stderr, /insecure_permissions/)
})

test('lf config unset makes no file where there is none, and the doctor finds one that is not JSON', (t) => {
  const home = newHome()
  const file = join(home, '.lenserfight.json')
  t.is(lf('config unset runner', { home, env: { HOME: home } }).status, 0)
  t.false(existsSync(file))
  writeFileSync(file, 'nonsense')
  const { status, stdout } = lf('gateway doctor --check config --json', { home, env: { HOME: home } })
  t.deepEqual([status, JSON.parse(stdout).checks[0].code], [3, 'config_invalid'])
})

test.serial('CO-1: lf config keeps what is known, refuses a secret, and warns of one by name alone', (t) => {
  const home = newHome()
  const env = { HOME: home }
  const file = join(home, '.lenserfight.json')
  const runner = '00000000-0000-4000-8000-00000000000b'
  t.is(lf(`config set runner ${runner}`, { home, env }).status, 0)
  t.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { runner })
  t.is(lf('config get runner', { home, env }).stdout, `${runner}\n`)
  const secret = 'sk-proj-abcdefghij0123456789'
  const refused = lf(`config set gateway ${secret}`, { home, env })
  t.is(refused.status, 1)
  t.regex(refused.stderr, /^secret_in_config: /)
  writeFileSync(file, JSON.stringify({ runner, provider: { openai: secret }, theirs: 1 }))
  const listed = spawnSync(lfFile, ['config', 'list', '--json'], {
    ...{ env: { PATH: process.env.PATH, HOME: home }, cwd: home, encoding: 'utf8' },
  })
  t.deepEqual(JSON.parse(listed.stdout), { ok: true, file, config: { runner }, secrets: ['provider.openai'] })
  t.regex(listed.stderr, /WARNING: secret_in_config: provider\.openai in /)
  const taken = lf('config unset runner', { home, env })
  t.deepEqual(JSON.parse(readFileSync(file, 'utf8')), { provider: {}, theirs: 1 })
  for (const { stdout, stderr } of [refused, listed, taken]) t.false(`${stdout}${stderr}`.includes(secret))
  const named = lf('config set runner nightly', { home, env })
  t.is(named.status, 2, 'a name is found by a sign-in alone')
  t.regex(named.stderr, /^not_signed_in: .*give its id/)
  t.regex(lf(`config set runner ${secret}`, { home, env }).stderr, /^secret_in_config: /, 'before anybody is asked')
})

test.serial(
  'a project that somebody else wrote names no gateway for this machine: it says what to name, and pins nothing',
  (t) => {
    const home = newHome()
    const root_key = encodeKey(generateKeyPair().publicKey)
    const descriptor = { url: 'nats://127.0.0.1:9', gateway_id: newUuidV7(), root_key }
    writeFileSync(join(home, 'theirs.json'), JSON.stringify(descriptor), { mode: 0o600 })
    writeFileSync(join(home, '.lenserfight.json'), JSON.stringify({ gateway: 'theirs.json' }), { mode: 0o600 })
    const named = lf('login --nonce', { home, env: { HOME: home } })
    t.is(named.status, 1)
    t.regex(named.stderr, /^descriptor_missing: .*--gateway .*theirs\.json/)
    const { store, settings } = openState(readEdgeConfig({ LENSERFIGHT_HOME: join(home, 'lf') }))
    t.is(settings.get('descriptor'), undefined)
    store.close()
    t.is(lf('login --nonce --gateway theirs.json', { home, env: { HOME: home } }).status, 0)
  },
)

test.serial('CO-1 CO-5: the doctor finds a secret in a project’s file and a private key in the environment', (t) => {
  const home = newHome()
  const doctor = (env: object) => {
    const { status, stdout, stderr } = lf('gateway doctor --check config --json', { home, env: { HOME: home, ...env } })
    return {
      status,
      told: `${stdout}${stderr}`,
      check: JSON.parse(stdout).checks[0] as { code: string | null; detail: string },
    }
  }
  t.deepEqual([doctor({}).status, doctor({}).check.code], [0, null])
  const key = encodeKey(generateKeyPair().privateKey)
  const exported = doctor({ LF_GATEWAY_DEVICE_KEY: key })
  t.deepEqual([exported.status, exported.check.code], [3, 'secret_in_environment'])
  t.regex(exported.check.detail, /LF_GATEWAY_DEVICE_KEY/)
  writeFileSync(join(home, '.lenserfight.json'), JSON.stringify({ note: key }))
  const leaked = doctor({})
  t.deepEqual([leaked.status, leaked.check.code], [3, 'secret_in_config'])
  t.regex(leaked.check.detail, /note in .*\.lenserfight\.json/)
  for (const { told } of [exported, leaked]) t.false(told.includes(key))
})

test('groups of commands have examples too, and every argument says what it is', async (t) => {
  const groups = [
    '',
    'config',
    'sessions',
    'api-keys',
    'gateway',
    'gateway policy',
    'gateway identity',
    'gateway audit',
  ]
  for (const command of [...groups, ...commands]) {
    const help = await createCli(
      command.split(' ').filter(Boolean),
      () => t.fail(),
      () => t.fail() as never,
    ).getHelp()
    t.regex(help, /Examples:\n {2}lf .*\S {2,}\S/, command)
    for (const line of /Positionals:\n((?: {2}.+\n)+)/.exec(help)?.[1]?.split('\n').filter(Boolean) ?? [])
      t.notRegex(line, /^ {2}\S+ +\[/, command)
  }
})

test('options are spoken of as people write them, and -h is help', async (t) => {
  const said = async (words: string): Promise<string> => {
    const refuse = (message: string): never => {
      throw new CodedError('usage', message)
    }
    const parse = async (): Promise<unknown> => createCli(words.split(' '), () => {}, refuse).parseAsync()
    const error = await t.throwsAsync<CodedError>(parse())
    return error?.detail ?? ''
  }
  t.is(await said('login --as x'), '--as needs --dev')
  t.is(await said('login --dev --nonce'), '--dev and --nonce exclude each other')
  t.is(await said('gateway devices --trust'), '--trust needs a value')
  t.regex(await said('gateway revoke-device x --compromised-since tomorrow'), /2026-11-20T08:30.*3d, not tomorrow/)
  const { status, stdout, stderr } = lf('gateway -h')
  t.deepEqual([status, stderr, stdout.split('\n')[0]], [0, '', 'lf gateway'])
})

/** What a command line is refused with, by the grammar alone. */
const refusal = async (...words: string[]): Promise<string> => {
  const refuse = (message: string): never => {
    throw new CodedError('usage', message)
  }
  try {
    await createCli(words, () => {}, refuse).parseAsync()
    return ''
  } catch (error) {
    return (error as CodedError).detail ?? String(error)
  }
}

test('what is missing is named, with the whole form of the command', async (t) => {
  t.is(await refusal('config', 'set'), '<name> is missing: lf config set <name> <value>')
  t.is(await refusal('config', 'set', 'runner'), '<value> is missing: lf config set <name> <value>')
  t.is(await refusal('gateway', 'suspend-device'), '<id> is missing: lf gateway suspend-device <id>')
  t.is(await refusal('gateway', 'runners', 'bind'), '<name> is missing: lf gateway runners bind <name>')
  t.is(await refusal('gateway', 'approvals', 'deny', '--yes'), '<run> is missing: lf gateway approvals deny <run>')
  for (const words of ['gateway runners nightly', 'gateway approvals 019d3c5e', 'gateway policy']) {
    t.not(await refusal(...words.split(' ')), '', words)
  }
})

test('what a policy is set to is understood in its bounds, or refused', async (t) => {
  const set = (...words: string[]) => refusal('gateway', 'policy', 'set', ...words)
  for (const words of [
    ['--approval', 'require-human', '--lenser-paused', 'on', '--daily-runs', '0', '--max-parallel', 'none'],
    ['--approval', 'require_human'],
    ['--dark-launch', '0', '--approval-seconds', '10', '--deny-tool', 'mcp/*', '--deny-tool', '*', '--allow-tool', 'a'],
    ['--dark-launch', '100', '--approval-seconds', '86400', '--daily-runs', '1000000', '--max-parallel', '10000'],
  ]) {
    t.is(await set(...words), '', words.join(' '))
  }
  for (const [said, ...words] of [
    [/Choices: "allow", "require-human", "deny"/, '--approval', 'human'],
    [/Choices: "on", "off"/, '--lenser-paused', 'yes'],
    [/0 to 1000000 is needed, not -1/, '--daily-runs=-1'],
    [/0 to 1000000 is needed, not 1000001/, '--daily-runs', '1000001'],
    [/^--max-parallel: .*0 to 10000 is needed, not -1/, '--max-parallel', '-1'],
    [/^--max-parallel: .*, not an empty one/, '--max-parallel', ''],
    [/^--deny-tool: .*, not an empty one/, '--deny-tool', ''],
    [/^--deny-tool: 256 tools at most/, ...Array.from({ length: 257 }, (_, n) => ['--deny-tool', `t${n}`]).flat()],
    [/0 to 10000 is needed, not 1.5/, '--max-parallel', '1.5'],
    [/0 to 100 is needed, not 101/, '--dark-launch', '101'],
    [/0 to 100 is needed, not none/, '--dark-launch', 'none'],
    [/10 to 86400 is needed, not 9/, '--approval-seconds', '9'],
    [/as in mcp\/read.*not a b/, '--deny-tool', 'a b'],
    [/a \* stands last.*not \*\/read/, '--deny-tool', '*/read'],
    [/^--lenser-paused is given once$/, '--lenser-paused', 'on', '--lenser-paused', 'off'],
  ] as const) {
    t.regex(await set(...words), said, words.join(' '))
  }
})

test('NR-2: the command line pauses lensers and their runners, and no agent', async (t) => {
  const unused = (): never => {
    throw new Error('nothing is chosen here')
  }
  const help = await createCli(['gateway', 'policy', 'set'], unused, unused).getHelp()
  t.regex(help, /--lenser-paused .*runners are paused/)
  t.notRegex(help, /agent/i)
})

test('what is no list is not taken twice, whatever its form; lists and flags may be', async (t) => {
  for (const [option, ...words] of [
    ['--runner', 'gateway', 'runs', '--runner', 'n', '--runner', 'n'],
    ['--runner', 'run', '--runner', 'x', '--runner', 'x', '--', 'true'],
    ['--label', 'run', '--label', 'a', '--label', 'b', '--', 'true'],
    ['--report', 'run', '--report', 'a', '--report', 'b', '--', 'true'],
    ['--wait', 'run', '--wait', '1', '--wait', '2', '--', 'true'],
    ['--approval', 'gateway', 'policy', 'set', '--approval', 'allow', '--approval', 'deny'],
    ['--daily-runs', 'gateway', 'policy', 'set', '--daily-runs', '1', '--daily-runs', '2'],
    ['--reason', 'gateway', 'approvals', 'deny', 'x', '--reason', 'a', '--reason', 'b'],
    ['--name', 'gateway', 'identity', 'init', '--name', 'a', '--name', 'b'],
    ['--as', 'login', '--dev', '--as', 'a', '--as', 'b'],
    ['--gateway', 'whoami', '--gateway', 'a', '--gateway', 'b'],
  ] as const) {
    t.is(await refusal(...words), `${option} is given once`)
  }
  for (const words of [
    [
      'run',
      '--input',
      'a',
      '--input',
      'b',
      '--output',
      'c',
      '--output',
      'd',
      '--',
      'true',
      '--wait',
      '1',
      '--wait',
      '2',
    ],
    ['gateway', 'doctor', '--check', 'clock', '--check', 'bus', '--json', '--json'],
  ]) {
    t.is(await refusal(...words), '', words.join(' '))
  }
})

test('a value that is refused names the word that it was given for', async (t) => {
  for (const [said, ...words] of [
    [/^--before: .*, not x$/, 'gateway', 'runs', '--before', 'x'],
    [/^--limit: /, 'gateway', 'runs', '--limit', '0'],
    [/^--wait: /, 'gateway', 'operation', 'x', '--wait', '601'],
    [/^--runner: a name is not empty$/, 'run', '--runner', '', '--', 'true'],
    [/^<name>: a name is not empty$/, 'gateway', 'runners', 'bind', ''],
    [/^--take: a side’s number/, 'gateway', 'sync', 'resolve', 'x', '--take', '0'],
    [/^--expires-in-days: days are/, 'api-keys', 'create', 'x', '--expires-in-days', '0'],
  ] as const) {
    t.regex(await refusal(...words), said, words.join(' '))
  }
})

test('what there is none of is called what it was given for', async (t) => {
  t.is(await refusal('nope'), 'there is no command nope')
  t.is(await refusal('gateway', 'nope'), 'there is no command nope')
  t.is(await refusal('gateway', 'runners', 'nightly'), 'there is no command nightly')
  t.is(await refusal('whoami', 'extra'), 'there is no argument extra')
  t.is(await refusal('whoami', '--some-thing=1'), 'there is no option --some-thing')
  t.is(await refusal('gateway', 'approvals', 'deny', 'x', '--watch'), 'there is no option --watch')
})

test('help calls no number a string', async (t) => {
  const helpOf = (words: string): Promise<string> =>
    createCli(
      words.split(' '),
      () => t.fail(),
      () => t.fail() as never,
    ).getHelp()
  const set = await helpOf('gateway policy set')
  for (const option of ['daily-runs', 'max-parallel', 'dark-launch', 'approval-seconds'])
    t.notRegex(set, new RegExp(`--${option} [^[]*\\[string`), option)
  t.notRegex(await helpOf('gateway runs'), /--limit [^[]*\[string/)
  t.notRegex(await helpOf('gateway approvals approve'), /--watch/)
})

test('a fault of lf’s own is not told as the gateway’s', (t) => {
  const { code, message, exit } = failureOf(new TypeError('secret'))
  t.deepEqual([code, exit], ['internal_error', 1])
  t.regex(message, /^lf itself failed, not the gateway \(TypeError\)/)
  t.notRegex(message, /secret|incident/)
})

test('suspend-device takes the --yes that scripts say everywhere', async (t) => {
  t.is(await refusal('gateway', 'suspend-device', 'laptop', '--yes'), '')
})

test('an id, a name or a reason that looks like a number stays what was typed', async (t) => {
  const refuse = (message: string): never => {
    throw new CodedError('usage', message)
  }
  const parse = (...words: string[]) => createCli(words, () => {}, refuse).parseAsync()
  for (const typed of ['0012', '1e234567', '12345678901234567890', '0x10', '00000000-0000-4000-8000-000000000001']) {
    t.like(await parse('gateway', 'revoke-device', typed, '--reason', typed), { id: typed, reason: typed })
    t.like(await parse('gateway', 'operation', typed), { id: typed })
    const set = await parse('gateway', 'objects', 'set', 'agent_config', typed, `name=${typed}`, '--unset', typed)
    t.like(set, { id: typed, changes: [`name=${typed}`], unset: [typed] })
    t.like(await parse('gateway', 'runners', 'unbind', typed), { name: typed })
    t.like(await parse('gateway', 'approvals', 'deny', typed, '--reason', typed), { run: typed, reason: typed })
    t.like(await parse('gateway', 'identity', 'init', '--name', typed), { name: typed })
  }
})

test.serial('a misspelt command is answered with the one that was meant', (t) => {
  t.regex(lf('gatway').stderr, /^usage: .*Did you mean gateway\?/)
})

test.serial('the doctor says what several checks stumble over once', (t) => {
  const home = enrolledHome()
  chmodSync(join(home, 'lf', 'gateway'), 0o755)
  const { status, stdout } = lf('gateway doctor', { home })
  t.is(status, 3)
  t.is(stdout.match(/is mode 0755/g)?.length, 1, stdout)
  t.regex(stdout, /\n✗ identity +insecure_permissions: see clock\n/)
  const { checks } = JSON.parse(lf('gateway doctor --json', { home }).stdout) as { checks: { detail: string }[] }
  t.true(checks.filter(({ detail }) => detail.includes('is mode 0755')).length > 1, 'programs are told each')
})

test.serial('a refused daemon tells programs once, and by one line', (t) => {
  const home = newHome()
  for (const words of ['gateway serve --json', 'gateway serve --json --port x']) {
    const { status, stdout } = lf(words, { home })
    t.not(status, 0)
    t.is(stdout.trimEnd().split('\n').length, 1, stdout)
    t.regex(JSON.parse(stdout).code, /^(not_enrolled|config_invalid)$/)
    t.notRegex(stdout, /stack/)
  }
})

test.serial('where a process cannot become another, the daemon runs in that of lf', (t) => {
  const isWindows = `data:text/javascript,Object.defineProperty(process, 'platform', { value: 'win32' })`
  const env = { NODE_OPTIONS: `--import=${isWindows.replaceAll(' ', '%20')}` }
  t.regex(lf('gateway serve', { env }).stderr, /^not_enrolled: /)
})

test.serial('what is not valid says what to do', (t) => {
  const home = newHome()
  const file = join(home, '.lenserfight.json')
  writeFileSync(file, '{"runner":"x"}')
  t.regex(lf('config list', { home, env: { HOME: home } }).stderr, /^config_invalid: .*Correct .*an id/)
  mkdirSync(join(home, 'lf'), { mode: 0o700 })
  writeFileSync(join(home, 'lf', 'lenserfight.json'), '[]', { mode: 0o600 })
  t.regex(lf('whoami', { home }).stderr, /^config_invalid: .*remove it, and sign in again/)
})

test('no sentence has a word that somebody would have to replace', (t) => {
  for (const code of reasonCodes) t.notRegex(reasonOf(code).message, /\bID\b/, code)
})

test('columns stay in line whatever the script', (t) => {
  const lines = tableOf([
    ['NAME', 'LEVEL'],
    ['ビルド', 'a'],
    ['café', 'b'],
    ['🚀', 'c'],
  ])
  t.deepEqual(lines, ['NAME    LEVEL', 'ビルド  a', 'café    b', '🚀      c'])
})
