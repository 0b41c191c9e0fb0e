import { lstatSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import test, { type ExecutionContext } from 'ava'
import { Machine } from '../e2e/_machine.ts'
import { askAsKept, filesBelow, loginKilled, profileFile, sessionKeys, spellingsOf } from './_home.ts'

interface Listed {
  readonly session: string
  readonly kind: string
  readonly revoked_at: number | null
  readonly current: boolean
}

let stack: Stack
test.before(async (t) => {
  t.timeout(60_000)
  stack = await testStack({ replicas: { verifier: 0, 'trust-evaluator': 0, 'sync-applier': 0, 'audit-chain': 0 } })
})
test.after.always(() => stack?.stop())

const machineOf = (t: ExecutionContext, name: string, env: NodeJS.ProcessEnv = {}): Machine => {
  t.timeout(180_000)
  return new Machine(stack, name, env)
}
const sessionsOf = async (machine: Machine): Promise<readonly Listed[]> =>
  (await machine.ask<{ sessions: Listed[] }>('sessions')).sessions

test.serial('lf login, whoami, sessions and logout: a session is made, shown, and ended at the gateway', async (t) => {
  const [laptop, server] = [machineOf(t, 'laptop'), machineOf(t, 'server')]
  const signedIn = await laptop.lf(['login', '--dev', '--as', 'ann', '--stack', join(stack.dir, 'stack.json')])
  t.regex(signedIn.stdout, /^Signed in as Lenser \S+ at nats:\S+ \(gateway \S+\) until .+ UTC\.\n$/)
  await server.login('ann')
  const who = await laptop.ask<{ session: string; lenser_id: string; kind: string; scope: string }>('whoami')
  t.deepEqual([who.kind, who.scope], ['sign-in', 'owner'])
  const listed = await sessionsOf(laptop)
  t.is(listed.length, 2)
  t.is(listed.find(({ current }) => current)?.session, who.session)
  t.regex((await laptop.lf(['sessions'])).stdout, new RegExp(`${who.session} +sign-in +\\S+ +owner .*\\(this one\\)`))

  const kept = readFileSync(join(laptop.state, 'keys', `session-${who.session}.key`), 'utf8')
  t.is((await laptop.lf(['logout'])).code, 0)
  t.deepEqual(sessionKeys(laptop), [])
  t.is((await laptop.lf(['whoami'])).code, 2)
  const [ended] = (await sessionsOf(server)).filter(({ session }) => session === who.session)
  t.not(ended?.revoked_at, null)
  // Whoever copied the key before can do nothing with it.
  writeFileSync(join(laptop.state, 'keys', `session-${who.session}.key`), kept, { mode: 0o600 })
  const { gateway_id } = stack.descriptor
  const session = { gateway_id, kid: who.session, lenser: who.lenser_id, expires_at: 4_000_000_000 }
  writeFileSync(profileFile(laptop), JSON.stringify({ session }), { mode: 0o600 })
  const copied = await laptop.lf(['whoami'])
  t.is(copied.code, 2)
  t.regex(copied.stderr, /^session_expired: /)
})

test.serial(
  'lf sessions revoke: another session is ended from here, by the beginning of its id; its own too',
  async (t) => {
    const [here, there] = [machineOf(t, 'here'), machineOf(t, 'there')]
    await here.login('ben')
    await there.login('ben')
    const other = (await sessionsOf(here)).find(({ current }) => !current) as Listed
    t.is((await here.lf(['sessions', 'revoke', other.session.slice(0, 8)])).code, 0)
    const refused = await there.lf(['whoami'])
    t.deepEqual([refused.code, refused.stderr.split(':')[0]], [2, 'session_expired'])
    t.regex((await here.lf(['sessions', 'revoke', other.session.slice(0, 7)])).stderr, /^session_not_found: /)
    const own = (await sessionsOf(here)).find(({ current }) => current) as Listed
    const { was_own } = await here.ask<{ was_own: boolean }>('sessions', 'revoke', own.session)
    t.true(was_own)
    t.deepEqual(sessionKeys(here), [])
    t.regex((await here.lf(['whoami'])).stderr, /^not_signed_in: /)
  },
)

test.serial('session_not_found: nobody ends, or finds, another account’s session', async (t) => {
  const [mine, theirs] = [machineOf(t, 'mine'), machineOf(t, 'theirs')]
  await mine.login('cleo')
  await theirs.login('carl')
  const { session } = await theirs.ask<{ session: string }>('whoami')
  const refused = await mine.lf(['sessions', 'revoke', session])
  t.deepEqual([refused.code, refused.stderr.split(':')[0]], [1, 'session_not_found'])
  t.is((await theirs.lf(['whoami'])).code, 0)
})

test.serial('lf logout --all ends every other sign-in and leaves API keys', async (t) => {
  const [here, there] = [machineOf(t, 'all-here'), machineOf(t, 'all-there')]
  await here.login('dana')
  await there.login('dana')
  const { api_key } = await here.ask<{ api_key: string }>('api-keys', 'create', 'ci')
  const ended = await here.lf(['logout', '--all'])
  t.is(ended.stdout, 'Signed out, and ended 1 other sign-ins.\n')
  t.is((await there.lf(['whoami'])).code, 2)
  const runner = machineOf(t, 'all-runner', { LENSERFIGHT_API_KEY: api_key })
  t.is((await runner.lf(['whoami', '--gateway', stack.descriptorFile])).code, 0)
})

test.serial('lf logout says so where the gateway cannot be reached, and forgets here alone with --local', async (t) => {
  const machine = machineOf(t, 'cut-off')
  await machine.login('eve')
  const { session } = await machine.ask<{ session: string }>('whoami')
  // Its address may change; what was pinned is the gateway.
  const away = join(machine.home, 'away.json')
  writeFileSync(away, JSON.stringify({ ...stack.descriptor, url: 'nats://127.0.0.1:9' }))
  const failed = await machine.lf(['logout', '--gateway', away])
  t.is(failed.code, 1)
  t.regex(failed.stderr, /^gateway_unreachable: .*--local/)
  t.deepEqual(sessionKeys(machine), [session], 'who holds no key cannot end its session any more')
  const local = await machine.lf(['logout', '--local'])
  t.is(local.code, 0)
  t.regex(local.stdout, new RegExp(`lf sessions revoke ${session}`))
  t.deepEqual(sessionKeys(machine), [])
  t.is((await machine.lf(['logout'])).stdout, 'Nobody was signed in.\n')
})

test.serial('signing in as somebody else leaves one key, and the former is gone', async (t) => {
  const machine = machineOf(t, 'shared')
  await machine.login('finn')
  const [first] = sessionKeys(machine)
  await machine.login('gwen')
  const keys = sessionKeys(machine)
  t.is(keys.length, 1)
  t.not(keys[0], first)
})

test.serial('a login killed after the gateway took it does not bar somebody else from signing in', async (t) => {
  const machine = machineOf(t, 'half')
  await machine.login('hal')
  const profile = JSON.parse(readFileSync(profileFile(machine), 'utf8')) as { session: { kid: string } }
  // As it stood before the session was written down.
  writeFileSync(profileFile(machine), JSON.stringify({ pending: { kid: profile.session.kid } }), { mode: 0o600 })
  const again = await machine.login('hal')
  t.is(again.session, profile.session.kid, 'the same person goes on with the same key')
  writeFileSync(profileFile(machine), JSON.stringify({ pending: { kid: profile.session.kid } }), { mode: 0o600 })
  const other = await machine.login('ida')
  t.not(other.lenser_id, again.lenser_id)
  t.deepEqual(sessionKeys(machine), [other.session as string])
  // Nor does one whose session was ended meanwhile.
  const there = machineOf(t, 'half-there')
  await there.login('ida')
  t.is((await there.lf(['sessions', 'revoke', other.session as string])).code, 0)
  writeFileSync(profileFile(machine), JSON.stringify({ pending: { kid: other.session } }), { mode: 0o600 })
  const fresh = await machine.login('ida')
  t.deepEqual(sessionKeys(machine), [fresh.session as string])
})

test.serial('lf login killed at any moment works again, and leaves one session key', async (t) => {
  const machine = machineOf(t, 'killed')
  const rounds = 16
  let cut = 0
  const start = performance.now()
  await machine.login('kim')
  const whole = performance.now() - start
  for (let round = 0; round < rounds; round++) {
    const before = readProfile(machine)
    await loginKilled(stack, machine, round % 3 === 0 ? 'jo' : 'kim', whole * (0.2 + Math.random()))
    if (readProfile(machine) === before || !('session' in JSON.parse(readProfile(machine)))) cut += 1
    const { session } = await machine.login('kim')
    t.deepEqual(sessionKeys(machine), [session as string], `round ${round}`)
    t.is((await askAsKept(stack, machine)).kid, session as string)
  }
  t.log(`${cut} of ${rounds} were cut before they were done`)
  t.is((await machine.ask<{ session: string }>('whoami')).session, sessionKeys(machine)[0] as string)
  t.is((await machine.lf(['logout'])).code, 0)
  t.deepEqual(sessionKeys(machine), [])
})

const readProfile = (machine: Machine): string => {
  try {
    return readFileSync(profileFile(machine), 'utf8')
  } catch {
    return '{}'
  }
}

test.serial(
  'CO-2: the profile holds which key speaks for whom and never the key, is 0600, and takes nothing else in',
  async (t) => {
    const machine = machineOf(t, 'profile')
    await machine.login('lea')
    const file = profileFile(machine)
    t.is(lstatSync(file).mode & 0o777, 0o600)
    t.is(lstatSync(join(file, '..')).mode & 0o777, 0o700)
    const profile = JSON.parse(readFileSync(file, 'utf8')) as { session: Record<string, unknown> }
    t.deepEqual(Object.keys(profile), ['session'])
    t.deepEqual(Object.keys(profile.session).sort(), ['expires_at', 'gateway_id', 'kid', 'lenser'])
    const [kid] = sessionKeys(machine)
    const keyFile = join(machine.state, 'keys', `session-${kid}.key`)
    const seed = Buffer.from(readFileSync(keyFile, 'utf8').trim(), 'base64url')
    t.is(seed.length, 32)
    const files = filesBelow(join(machine.home, 'lf')).filter(({ path }) => path !== keyFile)
    t.true(files.length > 1)
    for (const { path, bytes } of files)
      for (const spelling of spellingsOf(seed)) t.false(bytes.includes(spelling), path)

    for (const member of ['private_key', 'seed', 'key', 'token']) {
      writeFileSync(file, JSON.stringify({ ...profile, [member]: seed.toString('base64url') }), { mode: 0o600 })
      t.regex((await machine.lf(['whoami'])).stderr, /^config_invalid: /, member)
      writeFileSync(file, JSON.stringify({ session: { ...profile.session, [member]: 'x' } }), { mode: 0o600 })
      t.regex((await machine.lf(['whoami'])).stderr, /^config_invalid: /, `session.${member}`)
    }
  },
)
