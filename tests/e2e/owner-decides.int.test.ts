import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { openStore } from '@lenserfight/daemon/client'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { lfFile, Machine, type Ran, until } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine; stranger: Machine }>

interface Runner {
  runner_id: string
  name: string
  device_id: string | null
  device_name: string | null
  device_trust_level: string | null
  last_heartbeat_at: number | null
}
interface Approval {
  run_id: string
  device_name: string
  decision: string | null
}
interface Explained {
  rules: { fact: string; holds: boolean }[]
  first_failed: string | null
  remedy: { sentence: string; command: string | null } | null
}
/** The tests are steps of one story. */
let device = ''

const codeOf = ({ code, stderr }: Ran): [number | string | null, string | undefined] => [
  code,
  stderr.trim().split('\n').at(-1)?.split(':')[0],
]
const runnersOf = async (machine: Machine): Promise<Runner[]> =>
  (await machine.ask<{ runners: Runner[] }>('gateway', 'runners')).runners
const waitingOf = async (machine: Machine): Promise<Approval[]> =>
  (await machine.ask<{ approvals: Approval[] }>('gateway', 'approvals')).approvals.filter(
    ({ decision }) => decision === null,
  )
/** Begins a run that awaits a person; whatever comes of it, it ends. */
const beginRun = async (machine: Machine): Promise<{ run: string; ended: Promise<Ran> }> => {
  const before = new Set((await waitingOf(machine)).map(({ run_id }) => run_id))
  const ended = machine.lf(['run', '--', 'true'])
  let run: string | undefined
  await until(async () => {
    run = (await waitingOf(machine)).find(({ run_id }) => !before.has(run_id))?.run_id
    return run !== undefined
  }, 'a run that awaits approval')
  return { run: run as string, ended }
}

test.before('a machine that may run, and somebody else’s', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const machine = new Machine(stack, 'olga')
  const stranger = new Machine(stack, 'eve')
  t.context = { stack, machine, stranger }
  device = await machine.enrol('olga', 'build')
  await stranger.login('eve')
})
test.after.always('nothing stays', async (t) => {
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

test.serial('RH-1: lf gateway runners shows the one device that each runner is bound to, by name', async (t) => {
  const { machine, stranger } = t.context
  t.regex((await machine.lf(['gateway', 'runners'])).stdout, /^No runners\. .*`lf gateway runners bind/)
  const bound = await machine.lf(['gateway', 'runners', 'bind', 'nightly', '--device', 'build'])
  t.regex(bound.stdout, new RegExp(`^Runner nightly \\(\\S+\\) runs on build \\(${device}\\) from now on\\.\\n$`))
  t.regex((await machine.lf(['gateway', 'runners', 'bind', 'nightly'])).stdout, /, as before\.\n$/)
  const [nightly, ...others] = await runnersOf(machine)
  t.deepEqual(others, [])
  t.like(nightly, { name: 'nightly', device_id: device, device_name: 'build', device_trust_level: 'approved' })
  t.regex((await machine.lf(['gateway', 'runners'])).stdout, /\nnightly +\S+ +build +approved +never +0\n$/)

  const unbound = await machine.lf(['gateway', 'runners', 'unbind', 'nightly'])
  t.regex(unbound.stdout, /^Runner nightly \(\S+\) no longer runs on build\./)
  t.like((await runnersOf(machine))[0], { name: 'nightly', device_id: null, device_name: null })
  const list = (await machine.lf(['gateway', 'runners'])).stdout
  t.regex(list, /\nnightly +\S+ +not bound/)
  t.regex(list, /\nnightly runs nowhere: `lf gateway runners bind nightly`/)
  t.is((await machine.lf(['gateway', 'runners', 'unbind', nightly?.runner_id ?? ''])).code, 0, 'again changes nothing')
  t.deepEqual(codeOf(await machine.lf(['gateway', 'runners', 'unbind', 'nobody'])), [1, 'unknown_runner'])

  t.deepEqual(await runnersOf(stranger), [])
  t.deepEqual(codeOf(await stranger.lf(['gateway', 'runners', 'unbind', nightly?.runner_id ?? ''])), [
    1,
    'unknown_runner',
  ])
})

test.serial('a name that would act on a terminal is shown without doing so, and as one word to copy', async (t) => {
  const { machine } = t.context
  const name = 'x\u001b]0;t\u0007 y\u202e'
  t.is((await machine.lf(['gateway', 'runners', 'bind', name])).code, 0)
  await machine.ask('gateway', 'runners', 'unbind', name)
  const { stdout } = await machine.lf(['gateway', 'runners'])
  t.notRegex(stdout.replaceAll('\n', ''), /[\p{Cc}\p{Bidi_Control}]/u)
  t.true(stdout.includes("`lf gateway runners bind 'x\ufffd]0;t\ufffd y\ufffd'`"))
  t.true(
    (await runnersOf(machine)).some((each) => each.name === name),
    'programs are told the very name',
  )
})

test.serial('the policy is shown, tried and set, and what is not named stays', async (t) => {
  const { machine, stranger } = t.context
  t.is((await machine.lf(['gateway', 'policy', 'test'])).code, 0)
  const set = (...words: string[]) => machine.ask<{ settings: object }>('gateway', 'policy', 'set', ...words)
  await set('--daily-runs', '50', '--max-parallel', '2', '--deny-tool', 'shell', '--deny-tool', 'mcp/*')
  const { settings } = await set('--allow-tool', 'shell', '--max-parallel', 'none', '--approval-seconds', '3600')
  t.like(settings, {
    ...{ approval_default: 'allow', runner_paused: false, daily_runs: 50, max_parallel_runs: null },
    ...{ dark_launch_percent: 100, approval_seconds: 3600, denied_tools: ['mcp/*'] },
  })
  const shown = await machine.lf(['gateway', 'policy', 'show'])
  for (const line of [/^Runs today {4}\d+ of 50$/m, /^Denied tools {2}mcp\/\*$/m, /^Answer within 60 min$/m]) {
    t.regex(shown.stdout, line)
  }
  t.deepEqual(codeOf(await machine.lf(['gateway', 'policy', 'set', '--allow-tool', 'shell'])), [1, 'usage'])
  const theirs = await stranger.ask<{ settings: object }>('gateway', 'policy', 'show')
  t.like(theirs.settings, { daily_runs: null, denied_tools: [] }, 'an account has its own')
  const unknown = await machine.lf(['gateway', 'policy', 'test', '--lens-version', device])
  t.deepEqual(codeOf(unknown), [1, 'unknown_version'])
})

test.serial(
  'lf gateway explain tells a run’s level by its rules, the first that failed, and the one command',
  async (t) => {
    const { machine, stranger } = t.context
    t.deepEqual(codeOf(await stranger.lf(['gateway', 'explain'])), [1, 'usage'], 'it ran nothing')
    t.deepEqual(codeOf(await machine.lf(['gateway', 'explain', 'nobody'])), [1, 'nothing_to_explain'])
    const { runner_id } = await machine.ask<{ runner_id: string }>('gateway', 'runners', 'bind', 'nightly')
    const report = join(machine.home, 'report.json')
    const ran = await machine.lf(['run', '--report', report, '--runner', runner_id, '--', 'true'])
    t.is(ran.code, 0, ran.stderr)
    const { run_id, level } = JSON.parse(readFileSync(report, 'utf8')) as { run_id: string; level: string }

    const told = await machine.ask<Explained>('gateway', 'explain')
    t.like(told, { ok: true, kind: 'run', id: run_id, level })
    const failed = told.rules.find(({ holds }) => !holds)
    t.is(told.first_failed, failed?.fact ?? null)
    t.not(told.remedy, null)
    const { stdout } = await machine.lf(['gateway', 'explain', run_id])
    t.true(stdout.startsWith(`Run        ${run_id}\n`))
    t.is(stdout.match(/← the first that failed/g)?.length, 1, stdout)
    t.regex(stdout, new RegExp(`✗ ${failed?.fact}: .*← the first that failed`))
    t.true(stdout.includes(`\nNext       ${told.remedy?.sentence}\n`))
    t.false(stdout.includes('\u001b'), 'no colours but on a terminal')

    t.like(await machine.ask('gateway', 'explain', 'build'), { kind: 'device', id: device, level: 'approved' })
    t.regex((await machine.lf(['gateway', 'explain', device.slice(0, 12)])).stdout, /\n {4}✓ owner_approved: /)
    for (const id of [run_id, device, runner_id]) {
      t.deepEqual(codeOf(await stranger.lf(['gateway', 'explain', id])), [1, 'nothing_to_explain'], id)
    }
  },
)

test.serial(
  'what stands against a run is told by the policy’s test and by the doctor, with the code that runs get',
  async (t) => {
    const { machine } = t.context
    const tell = async (...words: string[]) => {
      await machine.ask('gateway', 'policy', 'set', ...words)
      const tested = await machine.lf(['gateway', 'policy', 'test', '--json'])
      const doctor = await machine.lf(['gateway', 'doctor', '--check', 'policy'])
      return { test: [tested.code, JSON.parse(tested.stdout).reason], doctor: [doctor.code, doctor.stdout] as const }
    }
    for (const [words, code, reason, said] of [
      [['--daily-runs', '0'], 3, 'budget_used_up', /^✗ policy +policy_denied: .*used up.*--daily-runs/],
      [
        ['--daily-runs', 'none', '--dark-launch', '100', '--approval', 'deny'],
        3,
        'approval_default_deny',
        /policy_denied/,
      ],
      [
        ['--approval', 'allow', '--lenser-paused', 'on'],
        3,
        'runner_paused',
        /^✗ policy +workspace_paused: .*paused off/,
      ],
      [
        ['--lenser-paused', 'off', '--approval', 'require-human'],
        0,
        'approval_default_require_human',
        /^✓ policy .*! /,
      ],
    ] as const) {
      const { test: tested, doctor } = await tell(...words)
      t.deepEqual(tested, [5, reason], words.join(' '))
      t.is(doctor[0], code, words.join(' '))
      t.regex(doctor[1], said)
    }
  },
)

test.serial('a pause is told once by the doctor: where it is said how to lift it', async (t) => {
  const { machine } = t.context
  await machine.ask('gateway', 'policy', 'set', '--lenser-paused', 'on')
  const paused = (await machine.lf(['gateway', 'doctor'])).stdout
  t.regex(paused, /\n✗ identity +workspace_paused: see policy\n/)
  t.is(paused.match(/--lenser-paused off/g)?.length, 1, paused)
  await machine.ask('gateway', 'policy', 'set', '--lenser-paused', 'off')
})

test.serial('a run that awaits a person is shown, and approved once', async (t) => {
  const { machine, stranger } = t.context
  const { run, ended } = await beginRun(machine)
  const awaiting = (await machine.lf(['gateway', 'explain', run])).stdout
  t.regex(awaiting, /\nOutcome +not decided yet: .*Nothing ran yet\.\n/)
  t.regex(awaiting, new RegExp(`\\n +lf gateway approvals approve ${run}\\n$`))
  const listed = (await machine.lf(['gateway', 'approvals'])).stdout
  t.regex(listed, new RegExp(`\\n${run} .* build .* awaits you, expires in `))
  t.true(listed.includes(`lf gateway approvals approve ${run}`))

  t.deepEqual(await waitingOf(stranger), [])
  for (const answer of ['approve', 'deny']) {
    const refused = await stranger.lf(['gateway', 'approvals', answer, run, '--yes'])
    t.deepEqual(codeOf(refused), [1, 'unknown_run'], answer)
  }
  const unasked = await machine.lf(['gateway', 'approvals', 'approve', run])
  t.deepEqual(codeOf(unasked), [1, 'usage'], 'nobody is there to be asked')
  const no = await machine.lfOnTerminal(['gateway', 'approvals', 'approve', run], 'n\n')
  t.deepEqual([no.code, no.stdout.includes('Nothing was decided.')], [1, true])

  const approved = await machine.lfOnTerminal(['gateway', 'approvals', 'approve', run.slice(0, 30)], 'y\n')
  t.is(approved.code, 0, approved.stdout)
  const said = stripVTControlCharacters(approved.stdout).replaceAll('\r', '')
  const shown = said.indexOf(`Device     build (${device})`)
  t.true(shown >= 0 && shown < said.indexOf('Let it run?'), 'what it is, before the question')
  t.regex(said, /\napproved: .* on build \(/)
  for (const answer of ['approve', 'deny']) {
    const again = await machine.lf(['gateway', 'approvals', answer, run, '--yes'])
    t.deepEqual(codeOf(again), [1, 'approval_not_pending'], answer)
  }
  t.regex((await machine.lf(['gateway', 'approvals'])).stdout, new RegExp(`\\n${run} .* approved \\d`))
  await ended

  await machine.ask('gateway', 'policy', 'set', '--approval', 'allow')
  t.is((await machine.lf(['run', '--', 'true'])).code, 0)
  await machine.ask('gateway', 'policy', 'set', '--approval', 'require-human')
  const free = (await machine.ask<{ runs: { run_id: string }[] }>('gateway', 'runs', '--limit', '1')).runs[0]?.run_id
  for (const given of [free as string, free?.slice(0, 30) as string]) {
    const never = await machine.lf(['gateway', 'approvals', 'deny', given, '--yes'])
    t.deepEqual(codeOf(never), [1, 'approval_not_pending'], never.stderr)
    t.true(never.stderr.includes(free as string), never.stderr)
  }
  t.deepEqual(codeOf(await machine.lf(['gateway', 'approvals', 'deny', randomUUID(), '--yes'])), [1, 'unknown_run'])
})

test.serial('a run is denied with why, and a list that is watched shows it until Ctrl-C', async (t) => {
  const { machine } = t.context
  const { run, ended } = await beginRun(machine)
  const watching = spawn('script', ['-qec', `exec ${lfFile} gateway approvals --watch`, '/dev/null'], {
    env: machine.env,
    cwd: machine.home,
  })
  // It ends with the test, also one that fails.
  t.teardown(() => watching.kill())
  let seen = ''
  const gone = new Promise((resolve) => watching.once('close', resolve))
  watching.stdout.setEncoding('utf8').on('data', (text: string) => {
    seen += text
  })
  await until(async () => seen.includes(run), 'the run in the list')
  const denied = await machine.lf(['gateway', 'approvals', 'deny', run, '--yes', '--reason', 'not tonight'])
  t.regex(denied.stdout, /^denied: .* on build \(.*Nothing of it will run\.\n$/)
  await until(async () => seen.includes('denied'), 'the answer in the list')
  watching.stdin.write('\u0003')
  t.is(await gone, 0)
  const { approvals } = await machine.ask<{ approvals: (Approval & { reason: string })[] }>('gateway', 'approvals')
  t.like(
    approvals.find(({ run_id }) => run_id === run),
    { decision: 'deny', reason: 'not tonight' },
  )
  t.is((await ended).code, 5)
  const why = (await machine.lf(['gateway', 'explain', run])).stdout
  t.regex(why, /\nOutcome +denied: a person denied it \(approval_denied\): not tonight\. Nothing ran\.\n/)
  t.notRegex(why, /withdrawn|in time/)
  t.regex((await machine.lf(['gateway', 'approvals'])).stdout, new RegExp(`\\n${run} .* denied \\d.*: not tonight\\n`))
  t.regex(why, /\n +lf run -- COMMAND\n$/)
})

const awaitedRun = /lf gateway approvals approve ([0-9a-f-]{36})/
/** The run that an `lf run` says it awaits approval of. */
const awaited = async (said: () => string): Promise<string> => {
  await until(async () => awaitedRun.test(said()), 'that it says what it awaits')
  return awaitedRun.exec(said())?.[1] as string
}
const untilTakenBack = (machine: Machine, run: string) =>
  until(async () => {
    const { approvals } = await machine.ask<{ approvals: Approval[] }>('gateway', 'approvals')
    return approvals.some(({ run_id, decision }) => run_id === run && decision === 'withdraw')
  }, 'that the run is taken back')

test.serial(
  'Ctrl-C at a terminal takes the awaiting run back: it frees its place, and nobody can approve it',
  async (t) => {
    const { machine } = t.context
    await machine.ask('gateway', 'policy', 'set', '--max-parallel', '1')
    const running = spawn('script', ['-qec', `exec ${lfFile} run -- touch left`, '/dev/null'], {
      env: machine.env,
      cwd: machine.home,
    })
    // It ends with the test, also one that fails.
    t.teardown(() => running.kill())
    let seen = ''
    const gone = new Promise((resolve) => running.once('close', resolve))
    running.stdout.setEncoding('utf8').on('data', (text: string) => {
      seen += text
    })
    const run = await awaited(() => seen)
    const full = await machine.lf(['run', '--', 'true'])
    t.deepEqual(codeOf(full), [5, 'policy_denied'], 'it holds the only place')
    running.stdin.write('\u0003')
    t.is(await gone, 130)
    t.true(seen.includes(`lf: nothing has run. Run ${run} is taken back: `), seen)
    await untilTakenBack(machine, run)
    const { used } = await machine.ask<{ used: object }>('gateway', 'policy', 'show')
    t.like(used, { parallel_runs: 0 })
    const late = await machine.lf(['gateway', 'approvals', 'approve', run, '--yes'])
    t.deepEqual(codeOf(late), [5, 'run_withdrawn'])
    t.regex((await machine.lf(['gateway', 'approvals'])).stdout, new RegExp(`\\n${run} .* taken back \\d`))
    const why = (await machine.lf(['gateway', 'explain', run])).stdout
    t.regex(why, /\nOutcome +taken back: whoever asked for it took it back \(withdrawn\)\. Nothing ran\.\n/)
    await machine.ask('gateway', 'policy', 'set', '--max-parallel', 'none')
    t.false(existsSync(join(machine.home, 'left')))
  },
)

test.serial(
  'a run whose lf is killed is taken back, and one whose lf outlives a killed daemon runs once approved',
  async (t) => {
    const { machine, stack } = t.context
    const killed = machine.lfStarted(['run', '--', 'touch', 'killed'])
    const run = await awaited(killed.said)
    killed.child.kill('SIGKILL')
    await killed.ended
    await untilTakenBack(machine, run)

    // It asks, and is gone before there is an answer.
    const evaluator = stack.workers('trust-evaluator')[0]?.pid as number
    process.kill(evaluator, 'SIGSTOP')
    const early = machine.lfStarted(['run', '--label', 'early', '--', 'touch', 'killed'])
    try {
      await until(async () => (await machine.status()).outbox.in_flight > 0, 'that it is asked')
      early.child.kill('SIGKILL')
      await early.ended
    } finally {
      process.kill(evaluator, 'SIGCONT')
    }
    await until(async () => {
      const { runs } = await machine.ask<{ runs: { label: string; reason: string }[] }>('gateway', 'runs')
      return runs.some(({ label, reason }) => label === 'early' && reason === 'withdrawn')
    }, 'that what nobody waits for is taken back')

    const [stays, leaves] = ['stays', 'leaves'].map((name) => machine.lfStarted(['run', '--', 'touch', name]))
    if (stays === undefined || leaves === undefined) return t.fail()
    const [kept, left] = [await awaited(stays.said), await awaited(leaves.said)]
    await machine.end('SIGKILL')
    leaves.child.kill('SIGKILL')
    await leaves.ended
    await machine.serve()
    await untilTakenBack(machine, left)
    t.deepEqual(
      (await waitingOf(machine)).map(({ run_id }) => run_id),
      [kept],
      'somebody waits for it still',
    )
    await machine.ask('gateway', 'approvals', 'approve', kept, '--yes')
    const ran = await stays.ended
    t.is(ran.code, 0, ran.stderr)
    t.deepEqual(
      ['killed', 'leaves', 'stays'].map((name) => existsSync(join(machine.home, name))),
      [false, false, true],
    )
  },
)

test.serial(
  'law 2: a run whose daemon dies before it is answered, after whoever asked gave up, is taken back by the next daemon',
  async (t) => {
    const { machine, stack } = t.context
    t.deepEqual(await waitingOf(machine), [])
    await machine.ask('gateway', 'policy', 'set', '--approval', 'require-human')
    const evaluator = stack.workers('trust-evaluator')[0]?.pid as number
    process.kill(evaluator, 'SIGSTOP')
    try {
      const run = { command_hash: 'A'.repeat(43), inputs: [], label: 'orphan' }
      await t.throwsAsync(machine.askDaemon('run.permit', { run, timeout_ms: 1_000 }), { code: 'answer_timeout' })
      await machine.end('SIGKILL')
    } finally {
      process.kill(evaluator, 'SIGCONT')
    }
    let orphan: string | undefined
    await until(async () => {
      orphan = (await waitingOf(machine))[0]?.run_id
      return orphan !== undefined
    }, 'that the gateway has it await a person')
    await machine.serve()
    await untilTakenBack(machine, orphan as string)
    const { used } = await machine.ask<{ used: object }>('gateway', 'policy', 'show')
    t.like(used, { parallel_runs: 0 }, 'it holds no place')
    const store = openStore(join(machine.state, 'state.db'))
    const asked = store.get<{ op_id: string }>(
      `SELECT op_id FROM operations WHERE kind = 'run_start' ORDER BY rowid DESC LIMIT 1`,
    )
    store.close()
    const told = (await machine.lf(['gateway', 'operation', asked?.op_id ?? ''])).stdout
    t.regex(told, /^run_start {2}done, sent .*\nNobody waits for its result any more: .* taken back\.\n/)
  },
)

test.serial('of a run that the policy refused, explain says what the policy’s own test says', async (t) => {
  const { machine } = t.context
  await machine.ask('gateway', 'policy', 'set', '--daily-runs', '0')
  t.is((await machine.lf(['run', '--', 'true'])).code, 5)
  const { stdout } = await machine.lf(['gateway', 'explain'])
  t.regex(stdout, /\nOutcome +refused: the runs of today are used up \(budget_used_up\)\. Nothing ran\.\n/)
  t.regex(stdout, /\n {4}· heartbeat_fresh \(not yet\): /)
  const { remedy } = await machine.ask<Explained>('gateway', 'explain')
  const tested = (await machine.lf(['gateway', 'policy', 'test'])).stdout
  t.true(tested.includes(`\n${remedy?.sentence} \`${remedy?.command}\`.\n`), tested)
  await machine.ask('gateway', 'policy', 'set', '--daily-runs', 'none')
})

interface Listed {
  runs: { run_id: string; device_name: string; runner_name: string | null; exit_code: number | null; reason: string }[]
  more: boolean
  next: string | null
}
const runsOf = (machine: Machine, ...words: string[]) => machine.ask<Listed>('gateway', 'runs', ...words)

test.serial('lf run takes a runner by its name, and lf gateway runs lists what ran, newest first', async (t) => {
  const { machine, stranger } = t.context
  await machine.ask('gateway', 'policy', 'set', '--approval', 'require-human')
  const waiting = machine.lfStarted(['run', '--', 'true'])
  const waits = await awaited(waiting.said)
  await machine.ask('gateway', 'policy', 'set', '--approval', 'allow')
  const ran = await machine.lf(['run', '--runner', 'nightly', '--label', 'by name', '--', 'sh', '-c', 'exit 7'])
  t.is(ran.code, 7, ran.stderr)
  const list = await runsOf(machine, '--limit', '2')
  t.deepEqual([list.runs.length, list.more], [2, true])
  const [newest, second] = list.runs
  t.like(newest, { device_name: 'build', runner_name: 'nightly', label: 'by name', exit_code: 7 })
  t.is(second?.run_id, waits)
  const older = await runsOf(machine, '--before', list.next ?? '', '--limit', '500')
  t.true(older.runs.length > 3)
  t.false(older.runs.some(({ run_id }) => run_id === newest?.run_id || run_id === waits))
  t.true(older.runs.some(({ reason }) => reason === 'withdrawn'))
  for (const filter of [['--runner', 'nightly'], ['--awaiting'], ['--device', 'build', '--limit', '1']]) {
    const only = (await runsOf(machine, ...filter)).runs
    t.is(only[0]?.run_id, filter[0] === '--awaiting' ? waits : newest?.run_id, filter.join(' '))
  }
  const open = (await runsOf(machine, '--open')).runs.map(({ run_id }) => run_id)
  t.true(open.includes(waits), 'one that awaits holds a place too')
  t.false(open.includes(newest?.run_id as string))

  const shown = (await machine.lf(['gateway', 'runs'])).stdout
  t.regex(shown, new RegExp(`^RUN .*\\n${newest?.run_id} +by name +build +nightly .* exit 7 `))
  t.regex(shown, new RegExp(`\\n${waits} .* awaits you, expires in `))
  t.true(shown.includes(`lf gateway explain ${newest?.run_id}`))
  t.false(shown.includes('\u001b'), 'no colours but on a terminal')
  t.regex((await stranger.lf(['gateway', 'runs'])).stdout, /^No runs yet\. /)
  t.deepEqual(codeOf(await stranger.lf(['gateway', 'runs', '--device', device])), [1, 'device_not_found'])
  t.deepEqual(codeOf(await machine.lf(['gateway', 'runs', '--awaiting', '--open'])), [1, 'usage'])
  waiting.child.kill('SIGINT')
  await waiting.ended
})

test.serial(
  'a runner’s name that means none or several is refused with what to do, and an id needs no sign-in',
  async (t) => {
    const { machine } = t.context
    const nightly = (await runnersOf(machine)).find(({ name }) => name === 'nightly')?.runner_id ?? ''
    // By its name, and by what its id begins with.
    await machine.ask('gateway', 'runners', 'bind', nightly.slice(0, 13))
    const several = await machine.lf(['run', '--runner', nightly.slice(0, 13), '--', 'touch', 'unsure'])
    t.deepEqual(codeOf(several), [1, 'usage'])
    t.true(several.stderr.includes(`${nightly} nightly`), several.stderr)
    t.deepEqual(codeOf(await machine.lf(['run', '--runner', 'nobody', '--', 'touch', 'unsure'])), [1, 'unknown_runner'])
    t.is((await machine.lf(['config', 'set', 'runner', 'nightly'])).code, 0)
    t.is((await machine.lf(['config', 'get', 'runner'])).stdout, `${nightly}\n`, 'its id is kept')
    t.is((await machine.lf(['config', 'unset', 'runner'])).code, 0)
    t.is((await machine.lf(['logout'])).code, 0)
    const unsigned = await machine.lf(['run', '--runner', 'nightly', '--', 'touch', 'unsure'])
    t.is(unsigned.code, 2, unsigned.stderr)
    t.regex(unsigned.stderr, /`lf login`.*give its id/)
    t.false(existsSync(join(machine.home, 'unsure')))
    t.is((await machine.lf(['run', '--runner', nightly, '--', 'true'])).code, 0)
    await machine.login('olga')
    await machine.ask('gateway', 'runners', 'unbind', 'nightly')
    const elsewhere = await machine.lf(['run', '--runner', 'nightly', '--', 'sh', '-c', 'echo it runs >&2'])
    t.is(elsewhere.code, 0)
    const told =
      /^lf: runner nightly is not bound to this machine, .*`lf gateway runners bind nightly`\.\n(.*\n)*it runs\n/m
    t.regex(elsewhere.stderr, told, 'before anything runs')
    t.regex(elsewhere.stderr, /attested: device_verified$/m)
  },
)

test.serial('of a revoked device the doctor tells what to do once', async (t) => {
  const { machine } = t.context
  await machine.ask('gateway', 'revoke-device', 'build', '--yes')
  await until(async () => (await machine.status()).code === 'device_revoked', 'the daemon’s word of it')
  const { code, stdout } = await machine.lf(['gateway', 'doctor'])
  t.is(code, 3)
  t.regex(stdout, /\n✗ bus +device_revoked: see identity\n/)
  t.is(stdout.match(/Enrol the machine under a new identity/g)?.length, 1, stdout)
})
