import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { generateKeyPair } from '@lenserfight/envelope'
import { openKeychain, readKeyPair } from '@lenserfight/keychain'
import { type ExecutionLevel, executionFacts, factSentences, type reasons } from '@lenserfight/schemas'
import { readRecord } from './cleanup.mjs'
import { copyHome } from './demo/clone.ts'
import { check, until } from './demo/expect.ts'
import { connectHostileDevice } from './demo/hostile-device.ts'
import { workOffline } from './demo/offline.ts'
import { createPerson, type Person } from './demo/person.ts'
import { decidePolicy } from './demo/policy.ts'
import { createReport, type Report } from './demo/report.ts'
import { makeContest, makeStranger, tamperWithChain } from './demo/world.ts'
import { readEnvironment } from './env.ts'
import { LocalError } from './errors.ts'
import { temporaryRunFolder } from './folders.ts'
import { runMark } from './process-identity.mjs'
import { type Stack, startStack } from './stack.ts'
import { onStopRequest, type StopRequest } from './stop-signals.ts'

const help = `usage: npm run demo [-- --json]

Starts the whole gateway on this machine, walks through what it does and what it refuses, and stops it again.
Nothing of yours is touched. Exit status 0 only if every step held.

  --json   one JSON object on standard output instead of the walk`

interface DeviceRow {
  device_id: string
  trust_level: string
  challenge_verified: boolean
  trust_reason: string | null
  fingerprint: string
  key_number: number
  last_heartbeat_at: number | string | null
}
interface DoctorReport {
  checks: { check: string; ok: boolean; code: string | null; ms: number }[]
}
interface RunReport {
  run_id: string
  level: string
  reason: string | null
  ladder: { level: Exclude<ExecutionLevel, 'unverified'>; reached: boolean; failing: string[] }[]
  exit_code: number
}

interface Explanation {
  level: string
  rules: { level: string; fact: string; holds: boolean; inputs: Record<string, unknown> }[]
}

const devicesOf = async (person: Person): Promise<DeviceRow[]> =>
  (await person.ask<{ devices: DeviceRow[] }>('gateway', 'devices')).devices

async function enrol(report: Report, person: Person, stack: Stack): Promise<{ lenser: string; device: string }> {
  report.chapter('A machine is enrolled')
  const login = await report.step('sign in', async () => {
    const who = await person.ask<{ lenser_id: string }>(
      'login',
      '--dev',
      '--as',
      'demo',
      '--stack',
      join(stack.dir, 'stack.json'),
    )
    return { line: `account ${who.lenser_id}`, lenser: who.lenser_id }
  })
  await report.step('make a key, register it', async () => {
    const made = await person.ask<{ device_id: string }>('gateway', 'identity', 'init', '--name', 'this-machine')
    return { line: `device ${made.device_id}, pending` }
  })
  person.start(['gateway', 'serve'])
  const pending = await report.step('the daemon answers the challenge', async () => {
    const rows = await until(
      () => devicesOf(person),
      ([row]) => row?.challenge_verified === true,
      'no answer to the challenge',
    )
    const row = rows[0] as DeviceRow
    check(row.trust_level === 'pending', `the device is ${row.trust_level} before anybody approved it`)
    return { line: `key ${row.fingerprint}`, row }
  })
  const device = pending.row.device_id
  await report.step('the owner approves', async () => {
    await person.ask('gateway', 'approve-device', device, '--yes')
    const [row] = await devicesOf(person)
    check(row?.trust_level === 'approved', `the device is ${row?.trust_level}`)
    return { line: 'pending → approved' }
  })
  await report.step('a heartbeat arrives', async () => {
    const rows = await until(
      () => devicesOf(person),
      ([row]) => (row?.last_heartbeat_at ?? null) !== null,
      'no heartbeat came',
    )
    return { line: `stored at ${new Date(Number(rows[0]?.last_heartbeat_at) * 1000).toISOString()}` }
  })
  return { lenser: login.lenser, device }
}

async function examine(report: Report, person: Person) {
  report.chapter('The machine says how it is')
  await report.step('lf gateway doctor', async () => {
    const { checks } = await person.ask<DoctorReport>('gateway', 'doctor')
    check(checks.length > 0 && checks.every(({ ok }) => ok), `it found ${JSON.stringify(checks)}`)
    return { line: checks.map(({ check: name, ms }) => `${name} ${Math.round(ms)} ms`).join(', '), data: { checks } }
  })
}

/** A key is replaced, a copied one is noticed, and its rightful owner takes the machine back: each one command. */
async function changeKeys(report: Report, world: { person: Person; stranger: Person; home: string; stolen: string }) {
  const { person, stranger, home, stolen } = world
  report.chapter('Keys come and go, and a copied one is noticed')
  await report.step('the key is rotated', async () => {
    const { key } = await person.ask<{ key: { fingerprint: string } }>('gateway', 'identity', 'rotate')
    const [row] = await devicesOf(person)
    check(row?.fingerprint === key.fingerprint && row.key_number === 2, 'the gateway knows another key')
    return { line: `key 2, ${key.fingerprint}` }
  })
  await report.step('somebody copies this machine', async () => {
    await copyHome(home, stolen)
    stranger.start(['gateway', 'serve'])
    const rows = await until(
      () => devicesOf(person),
      ([row]) => row?.trust_level === 'unhealthy',
      'nobody noticed that two machines sign with one key',
    )
    check(rows[0]?.trust_reason === 'identity_forked', `the reason given is ${rows[0]?.trust_reason}`)
    const ran = await stranger.lf(['run', '--', 'echo', 'this must not run'])
    check(ran.code === 5 && ran.stdout === '', `the copy ran it: ${ran.code} ${ran.stdout}`)
    return { line: 'noticed: identity_forked, nothing runs on either' }
  })
  await report.step('its owner reproves it', async () => {
    const proved = await person.ask<{ trust_level: string; key_number: number }>('gateway', 'identity', 'reprove')
    check(proved.trust_level === 'approved' && proved.key_number === 3, `it is ${proved.trust_level}`)
    await until(
      () => person.lf(['run', '--', 'true']),
      ({ code }) => code === 0,
      'the rightful machine does not run',
    )
    const ran = await stranger.lf(['run', '--', 'echo', 'this must not run'])
    check(ran.code !== 0 && ran.stdout === '', `the copy ran it: ${ran.stdout}`)
    return { line: 'key 3 here, approved again; the copy’s key is dead' }
  })
  await stranger.stopAll()
}

async function runCommand(person: Person, home: string, args: string[]): Promise<RunReport & { output: string }> {
  const file = join(home, 'report.json')
  rmSync(file, { force: true })
  const ran = await person.lf(['run', '--report', file, ...args, '--', 'sort', '-r'], { stdin: 'one\ntwo\nthree\n' })
  check(ran.code === 0, `lf run exited ${ran.code}: ${ran.stderr}`)
  return { ...(JSON.parse(readFileSync(file, 'utf8')) as RunReport), output: ran.stdout }
}

/** The ladder level by level: what each rests on, and what is missing where it is not reached. */
const ladderLines = ({ ladder }: RunReport): string[] =>
  ladder.flatMap(({ level, reached, failing }) => [
    `${reached ? '●' : '○'} ${level}`,
    ...executionFacts[level].map((fact) => `    ${failing.includes(fact) ? '✗ not yet:' : '✓'} ${factSentences[fact]}`),
  ])

async function attest(
  report: Report,
  world: { person: Person; stack: Stack; home: string; lenser: string; device: string },
) {
  const { person, stack, home, lenser, device } = world
  report.chapter('Commands run, and their level is derived by the server alone')
  await report.step('lf run -- sort -r', async () => {
    const run = await runCommand(person, home, [])
    check(run.output === 'two\nthree\none\n', 'the command’s output was changed')
    check(run.level === 'account_verified', `the level is ${run.level}`)
    return { line: `${run.level}: no runner, no contender`, more: ladderLines(run), data: run }
  })
  const bound = await report.step('bind a runner to this machine', async () => {
    const made = await person.ask<{ runner_id: string }>(
      'gateway',
      'runners',
      'bind',
      'demo-runner',
      '--device',
      device,
    )
    return { line: `runner ${made.runner_id}`, runner: made.runner_id }
  })
  const backed = await report.step('lf run for a submission', async () => {
    const contest = await makeContest(stack.owner, lenser, bound.runner)
    const run = await runCommand(person, home, [
      '--submission',
      contest.submission,
      '--runner',
      bound.runner,
      '--lens-version',
      contest.version,
    ])
    check(run.level === 'fully_trusted', `the level is ${run.level}: ${run.reason}`)
    return { line: run.level, data: run, submission: contest.submission }
  })
  await report.step('lf gateway explain SUBMISSION', async () => {
    const explanation = await person.ask<Explanation>('gateway', 'explain', backed.submission)
    check(explanation.level === 'fully_trusted', `it is explained as ${explanation.level}`)
    const failing = explanation.rules.filter(({ holds }) => !holds)
    check(failing.length === 0, `a rule does not hold: ${JSON.stringify(failing)}`)
    const { stdout } = await person.lf(['gateway', 'explain', backed.submission])
    return { line: 'what each level rests on', more: stdout.trimEnd().split('\n'), data: explanation }
  })
}

async function attack(
  report: Report,
  world: { person: Person; stack: Stack; home: string; lenser: string; device: string },
) {
  const { person, stack, home, lenser, device } = world
  report.chapter('What a program with the device’s own key tries')
  const keychain = await openKeychain({ fileFallback: '1', folder: join(home, 'gateway', 'keys'), warn: () => {} })
  const { privateKey: key } = await readKeyPair(keychain, await keyName(home))
  const hostile = await connectHostileDevice({
    descriptor: stack.descriptor,
    keys: stack.gatewayKeys.list,
    ...{ lenser, kid: device, key },
  })
  const refused = (title: string, code: keyof typeof reasons, bytes: () => Promise<Uint8Array>) =>
    report.step(title, async () => {
      const receipt = await hostile.send(await bytes())
      check(!receipt.ok && receipt.code === code, `the answer was ${receipt.ok ? 'ok' : receipt.code}`)
      return { line: code, data: { code } }
    })
  await refused('a forged envelope', 'signature_mismatch', async () =>
    hostile.sign({ key: generateKeyPair().privateKey }),
  )
  await refused('a replayed envelope', 'nonce_replay', async () => {
    const bytes = hostile.sign()
    const first = await hostile.send(bytes)
    check(first.ok, `the first was refused: ${first.code}`)
    return bytes
  })
  await refused('a stale envelope', 'iat_window', async () =>
    hostile.sign({ iat: Math.floor(Date.now() / 1000) - 600 }),
  )
  await refused('a foreign envelope', 'kid_mismatch', async () => {
    const pair = generateKeyPair()
    return hostile.sign({ kid: await makeStranger(stack.owner, pair.publicKey), key: pair.privateKey })
  })
  await report.step('the owner revokes the device', async () => {
    await person.ask('gateway', 'revoke-device', device, '--reason', 'demo', '--yes')
    const late = new Promise<boolean>((resolve) => setTimeout(resolve, 1_000, false).unref())
    check(await Promise.race([hostile.cut.then(() => true), late]), 'it is still connected after a second')
    return { line: 'for ever; its live connection was cut at once' }
  })
  await report.step('the revoked device goes on', async () => {
    const { forbidden, level } = await hostile.goOn()
    check(forbidden && level === 'revoked', `it may go on as ${String(level)}`)
    return { line: 'let in to learn why, and to say nothing else' }
  })
  await report.step('lf run on a revoked machine', async () => {
    const ran = await person.lf(['run', '--', 'echo', 'this must not run'])
    check(ran.code === 5 && ran.stdout === '', `it exited ${ran.code} and said ${ran.stdout}`)
    return { line: 'exit status 5, the command did not run' }
  })
  await hostile.close()
}

async function audit(report: Report, world: { person: Person; stack: Stack; lenser: string }) {
  const { person, stack, lenser } = world
  interface Verdict {
    intact: boolean
    entries: number
    first_bad_index: number | null
  }
  const verify = () => person.ask<Verdict>('gateway', 'audit', 'verify')
  report.chapter('The record')
  await report.step('the audit chain verifies', async () => {
    const verdict = await until(verify, ({ intact, entries }) => intact && entries > 10, 'the chain does not verify')
    return { line: `${verdict.entries} entries, every link holds`, data: verdict }
  })
  await report.step('a superuser alters one row', async () => {
    const { seq, undo } = await tamperWithChain(stack.owner, lenser)
    const ran = await person.lf(['gateway', 'audit', 'verify', '--json'])
    const verdict = JSON.parse(ran.stdout) as Verdict
    check(!verdict.intact && ran.code === 1, 'nobody noticed')
    check(String(verdict.first_bad_index) === seq, `entry ${verdict.first_bad_index} was blamed, not ${seq}`)
    await undo()
    return { line: `noticed: entry ${verdict.first_bad_index} is not what was linked`, data: verdict }
  })
}

/** The name under which this machine's key lies in its keychain. */
async function keyName(home: string): Promise<string> {
  const { openStore, createSettings } = await import('@lenserfight/daemon')
  const store = openStore(join(home, 'gateway', 'state.db'))
  try {
    return createSettings(store).get('identity')?.key_name as string
  } finally {
    store.close()
  }
}

async function demonstrate(report: Report, stop: StopRequest): Promise<void> {
  const env = readEnvironment()
  const dir = temporaryRunFolder(env)
  const onStep = (name: string) => {
    stop.signal.throwIfAborted()
    process.stderr.write(`starting ${name}\n`)
  }
  const stack = await startStack({ env, dir, folder: dir, onStep })
  const home = join(dir, 'home')
  const laptopHome = join(dir, 'laptop')
  // A pending device looks for its approval every few seconds; somebody who watches need not wait for it.
  // So is the clone found: with heartbeats, which come twice a minute else. And edits are gathered for some seconds.
  const timing = JSON.stringify({
    ...{ pending_poll_ms: 500, heartbeat_ms: 1_000, sync_flush_ms: 300, sync_pull_ms: 1_000 },
    ...{ resend_floor_ms: 1_000, reconnect: { floor_ms: 100, first_ceiling_ms: 500, ceiling_ms: 1_000 } },
  })
  for (const each of [home, laptopHome]) {
    mkdirSync(join(each, 'gateway'), { recursive: true, mode: 0o700 })
    writeFileSync(join(each, 'gateway', 'daemon.json'), timing, { mode: 0o600 })
  }
  // The mark has the reaper end what the person started, should the demo be killed.
  const mark = { [runMark]: readRecord(dir)?.id ?? '' }
  const machines = { ...env, childEnv: { ...env.childEnv, ...mark } }
  const person = createPerson({ env: machines, home })
  const laptop = createPerson({ env: machines, home: laptopHome })
  const stolen = join(dir, 'stolen')
  const stranger = createPerson({ env: machines, home: stolen })
  const walk = async () => {
    const { lenser, device } = await enrol(report, person, stack)
    const world = { person, stack, home, lenser, device }
    await examine(report, person)
    await attest(report, world)
    await decidePolicy(report, world)
    await changeKeys(report, { person, stranger, home, stolen })
    await workOffline(report, { person, laptop, stack })
    await attack(report, world)
    await audit(report, world)
  }
  const interrupted = stop.requested.then(() => stop.signal.throwIfAborted())
  try {
    await Promise.race([walk(), interrupted])
  } finally {
    await Promise.all([person, laptop, stranger].map((each) => each.stopAll()))
    await stack.stop()
  }
}

async function main(json: boolean): Promise<number> {
  const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
  const stop = onStopRequest()
  // A step that is under way when somebody stops the demo fails because of that, and is nobody's news.
  const write = (text: string) => void (stop.signal.aborted || process.stdout.write(text))
  // With nobody left to read, there is nobody to show anything to.
  process.stdout.on('error', () => process.kill(process.pid, 'SIGTERM'))
  const report = createReport({ json, colour, write })
  const started = performance.now()
  let error: unknown
  try {
    await demonstrate(report, stop)
  } catch (caught) {
    error = stop.signal.aborted ? stop.signal.reason : caught
  }
  stop.release()
  const seconds = Math.round((performance.now() - started) / 100) / 10
  const held = error === undefined
  const message = error instanceof Error ? error.message : String(error)
  const why = error instanceof LocalError ? `${error.code}: ${message}` : message
  if (json)
    console.log(JSON.stringify({ held, seconds, steps: report.shown, ...(held ? {} : { error: why }) }, null, 2))
  else if (held) console.log(`\nEvery step held (${report.shown.length} steps, ${seconds} s).`)
  else console.log(stop.signal.aborted ? '\nStopped; nothing is left running.' : `\nThe demo failed: ${why}`)
  return held ? 0 : 1
}

const argumentsOf = (args: string[]) => {
  try {
    return parseArgs({ args, options: { json: { type: 'boolean' }, help: { type: 'boolean' } } }).values
  } catch (error) {
    console.error(`usage: ${(error as Error).message}\n\n${help}`)
    return process.exit(1)
  }
}

const given = argumentsOf(process.argv.slice(2))
if (given.help) console.log(help)
else process.exit(await main(given.json === true))
