import { execFile, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectDaemon, openStore } from '@lenserfight/daemon/client'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { type Attested, hashCommand, openRunner, type Run, type Runner } from '@lenserfight/runner'
import { limits } from '@lenserfight/schemas'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { Machine, until } from './_machine.ts'

const test = anyTest as TestFn<{ stack: Stack; machine: Machine; runner: Runner }>
/** The runner that is bound to the machine. */
let bound = ''

test.before('an enrolled machine with a runner', async (t) => {
  const stack = await testStack()
  await stack.whenReady()
  const machine = new Machine(stack, 'paula')
  await machine.enrol('paula', 'machine')
  bound = (await machine.ask<{ runner_id: string }>('gateway', 'runners', 'bind', 'nightly')).runner_id
  t.context = { stack, machine, runner: await openRunner({ socket: join(machine.state, 'daemon.sock') }) }
})
test.after.always('nothing stays', async (t) => {
  t.context.runner?.close()
  await t.context.machine?.end('SIGTERM')
  await t.context.stack?.stop()
})

const rowsOf = <T>(stack: Stack, sql: string, ...values: unknown[]): Promise<T[]> =>
  withClient(stack.owner, async (client) => (await client.query(sql, values)).rows as T[])
const countOf = async (stack: Stack, sql: string, ...values: unknown[]): Promise<number> =>
  (await rowsOf<{ n: number }>(stack, `SELECT count(*)::int AS n FROM ${sql}`, ...values))[0]?.n ?? -1
const setPolicy = (machine: Machine, ...words: string[]) => machine.ask('gateway', 'policy', 'set', ...words)
const factsOf = ({ outcome }: Attested): Record<string, boolean> =>
  (outcome?.result?.facts ?? {}) as Record<string, boolean>

test.serial('PE-3: what the policy denies does not run, exits 5, and nothing of it is stored', async (t) => {
  const { stack, machine } = t.context
  await setPolicy(machine, '--approval', 'deny')
  const before = await countOf(stack, 'execution.attestations')
  const ran = await machine.lf(['run', '--', 'touch', 'denied'])
  t.is(ran.code, 5, ran.stderr)
  t.regex(ran.stderr, /^policy_denied: .*approval_default_deny/m)
  const told = await machine.lf(['run', '--json', '--', 'touch', 'denied'])
  const said = JSON.parse(told.stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>
  t.like(said, { ok: false, code: 'policy_denied', reason: 'approval_default_deny', taken_back: null })
  const [newest] = await rowsOf(stack, 'SELECT id FROM execution.runs ORDER BY id DESC LIMIT 1')
  t.deepEqual([{ id: said.run_id }], [newest])
  t.false(existsSync(join(machine.home, 'denied')))
  t.is(await countOf(stack, 'execution.attestations'), before)
  await setPolicy(machine, '--approval', 'allow', '--lenser-paused', 'on')
  const paused = await machine.lf(['run', '--', 'touch', 'denied'])
  t.is(paused.code, 5, paused.stderr)
  t.regex(paused.stderr, /^workspace_paused: /m)
  t.false(existsSync(join(machine.home, 'denied')))
  await setPolicy(machine, '--lenser-paused', 'off')
})

test.serial('RH-2 RH-4: a run that names its runner has a heartbeat that names it, however short it is', async (t) => {
  const { stack, machine, runner } = t.context
  const run = await runner.permit({ command: ['true'], runner: bound })
  await run.start()
  const attested = await run.complete({ exitCode: 0 })
  run.close()
  t.is(attested.state, 'done')
  await t.throwsAsync(runner.permit({ command: ['true'], runner: 'nightly' }), { code: 'malformed_body' })
  await until(
    async () => (await countOf(stack, 'devices.heartbeats WHERE $1 = ANY (runners)', bound)) > 0,
    'a heartbeat that names the runner',
  )
  t.is(await countOf(stack, 'execution.runners WHERE id = $1 AND last_heartbeat_at IS NOT NULL', bound), 1)
  const { ended } = machine.lfStarted(['run', '--runner', bound, '--report', 'fresh.json', '--', 'true'])
  t.is((await ended).code, 0)
})

/** A command that stands until it is let go, started by `lf run`. */
const standing = (machine: Machine, name: string, ...words: string[]) => {
  // It ends with its home too, so that no failure here leaves it behind.
  const script = `touch ${name}.started; while [ -e ${name}.started ] && [ ! -e ${name}.go ]; do sleep 0.05; done`
  const started = machine.lfStarted(['run', ...words, '--', 'sh', '-c', script])
  return {
    ...started,
    stands: () => until(async () => existsSync(join(machine.home, `${name}.started`)), `that ${name} runs`),
    release: () => writeFileSync(join(machine.home, `${name}.go`), ''),
  }
}
const awaitedRun = /lf gateway approvals approve ([0-9a-f-]{36})/
/** The run that an `lf run` says it awaits approval of. */
const awaited = async (said: () => string): Promise<string> => {
  await until(async () => awaitedRun.test(said()), 'that it says what it awaits')
  return awaitedRun.exec(said())?.[1] as string
}

test.serial('a run that awaits a person runs once approved, and not when denied, left, or too late', async (t) => {
  t.timeout(240_000)
  const { stack, machine } = t.context
  await setPolicy(machine, '--approval', 'require-human', '--approval-seconds', '10')
  const late = machine.lfStarted(['run', '--', 'touch', 'late'])
  await awaited(late.said)
  await setPolicy(machine, '--approval-seconds', '600')
  const approved = machine.lfStarted(['run', '--label', 'yes, please', '--', 'touch', 'approved'])
  const denied = machine.lfStarted(['run', '--', 'touch', 'denied'])
  const left = machine.lfStarted(['run', '--', 'touch', 'left'])
  const given = await machine.lf(['run', '--approval-wait', '0', '--', 'touch', 'given'])
  t.is(given.code, 5)
  const toldAs = await machine.lf(['run', '--json', '--approval-wait', '0', '--', 'touch', 'given'])
  const word = JSON.parse(toldAs.stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>
  t.like(word, { code: 'approval_required', reason: 'approval_default_require_human', taken_back: true })
  t.regex(given.stderr, /^approval_required: .*Start it anew/m, 'nobody can answer this one any more')

  const [yes, no, gone] = await Promise.all([approved, denied, left].map(({ said }) => awaited(said)))
  t.false(existsSync(join(machine.home, 'approved')), 'nothing runs before')
  t.deepEqual(await rowsOf(stack, 'SELECT label FROM execution.runs WHERE id = $1', yes), [{ label: 'yes, please' }])
  t.true(yes !== undefined && gone !== undefined)
  t.true(
    left.said().includes(`(command ${hashCommand(['touch', 'left']).slice(0, 8)}…) awaits its owner’s approval until `),
  )
  t.true(left.said().includes(`\`lf gateway approvals deny ${gone}\``), left.said())
  t.regex(late.said(), /awaits its owner’s approval, for \d+ s yet: /)
  left.child.kill('SIGINT')
  const interrupted = await left.ended
  t.is(interrupted.code, 'SIGINT')
  t.regex(interrupted.stderr, new RegExp(`^lf: nothing has run\\. Run ${gone} is taken back: .*$`, 'm'))
  t.regex(given.stderr, /^lf: nothing has run\. Run [0-9a-f-]{36} is taken back: .*$/m)
  await until(
    async () => /taken back \d.*\n(.*\n)*.*taken back \d/.test((await machine.lf(['gateway', 'approvals'])).stdout),
    'that both show as taken back',
  )
  await machine.ask('gateway', 'approvals', 'approve', yes as string, '--yes')
  await machine.ask('gateway', 'approvals', 'deny', no as string, '--yes')
  const answered = await machine.lf(['gateway', 'approvals', 'approve', gone as string, '--yes'])
  t.regex(answered.stderr, /^run_withdrawn: /m, 'it awaits nobody any more')

  const done = await approved.ended
  t.is(done.code, 0, done.stderr)
  t.true(existsSync(join(machine.home, 'approved')))
  t.regex(done.stderr, /attested: account_verified/)
  t.true(done.stderr.endsWith(`\nlf: why: lf gateway explain ${yes}\n`), done.stderr)
  const refused = await denied.ended
  t.is(refused.code, 5)
  t.regex(refused.stderr, /^approval_denied: /m)
  const expired = await late.ended
  t.is(expired.code, 5)
  t.regex(expired.stderr, /^approval_expired: /m)
  for (const name of ['denied', 'left', 'given', 'late']) t.false(existsSync(join(machine.home, name)), name)
  t.is(await countOf(stack, 'execution.attestations WHERE run_id = ANY ($1)', [yes, no, gone]), 1)
  await setPolicy(machine, '--approval', 'allow')
})

test.serial(
  'WT-3: each tool is logged before it is used, and one that is denied is logged, unused, and counts',
  async (t) => {
    const { stack, machine, runner } = t.context
    await setPolicy(machine, '--deny-tool', 'net/*')
    const use = async (tools: readonly string[]): Promise<{ run: Run; codes: unknown[]; attested: Attested }> => {
      const run = await runner.permit({ command: ['agent'], runner: bound })
      await run.start()
      const codes: unknown[] = []
      for (const tool of tools) {
        codes.push(
          await run.tool(tool, { tool }).then(
            ({ seq }) => seq,
            ({ code }: { code: string }) => code,
          ),
        )
      }
      const attested = await run.complete({ exitCode: 0 })
      run.close()
      return { run, codes, attested }
    }
    const good = await use(['fs/read', 'text/count'])
    t.deepEqual(good.codes, [1, 2])
    t.is(factsOf(good.attested).policy_passed, true)
    const bad = await use(['fs/read', 'net/get', 'text/count'])
    t.deepEqual(bad.codes, [1, 'tool_denied', 3])
    t.is(factsOf(bad.attested).policy_passed, false)
    const log = await rowsOf(
      stack,
      'SELECT seq, tool, verdict, denied_by FROM agents.tool_invocations WHERE run_id = $1 ORDER BY seq',
      bad.run.permit.runId,
    )
    t.deepEqual(log, [
      { seq: 1, tool: 'fs/read', verdict: 'allow', denied_by: null },
      { seq: 2, tool: 'net/get', verdict: 'deny', denied_by: 'net/*' },
      { seq: 3, tool: 'text/count', verdict: 'allow', denied_by: null },
    ])
    await t.throwsAsync(bad.run.tool('fs/read'), { code: 'daemon_unreachable' }, 'it was closed')
    await setPolicy(machine, '--allow-tool', 'net/*')
  },
)

test.serial(
  'a daemon killed while runs are under way asks anew, goes on counting, and both are covered to their end',
  async (t) => {
    t.timeout(240_000)
    const { stack, machine, runner } = t.context
    const report = join(machine.home, 'killed.json')
    const command = standing(machine, 'killed', '--report', report)
    await command.stands()
    const run = await runner.permit({ command: ['agent'], runner: bound, heartbeatMs: 500 })
    await run.start()
    t.is((await run.tool('fs/read')).seq, 1)
    await machine.end('SIGKILL')
    const [{ now } = { now: '' }] = await rowsOf<{ now: string }>(stack, 'SELECT now()')
    await machine.serve()
    const renewed = (id: string) =>
      countOf(stack, `agents.policy_evaluations WHERE run_id = $1 AND phase = 'renewal' AND evaluated_at > $2`, id, now)
    await until(async () => (await renewed(run.permit.runId)) > 0, 'a renewal by the next daemon')
    t.is((await run.tool('fs/read', { again: true })).seq, 2)
    const attested = await run.complete({ exitCode: 0 })
    run.close()
    t.is(attested.state, 'done')
    t.is(factsOf(attested).policy_passed, true)
    t.is(await countOf(stack, 'agents.tool_invocations WHERE run_id = $1', run.permit.runId), 2)
    command.release()
    const ran = await command.ended
    t.is(ran.code, 0, ran.stderr)
  },
)

test.serial(
  'a run that the policy allows no longer is ended and exits 5; what ran is attested, and did not pass',
  async (t) => {
    const { stack, machine } = t.context
    const command = standing(machine, 'withdrawn')
    const script = 'trap "" TERM; touch deaf.started; while [ -e deaf.started ]; do sleep 0.05; done'
    const deaf = machine.lfStarted(['run', '--', 'sh', '-c', script])
    await command.stands()
    await until(async () => existsSync(join(machine.home, 'deaf.started')), 'that deaf runs')
    await setPolicy(machine, '--approval', 'deny')
    const ran = await command.ended
    t.is(ran.code, 5, ran.stderr)
    t.regex(ran.stderr, /the command is ended\. permit_withdrawn: .*approval_default_deny/)
    const id = /run ([0-9a-f-]{36}) attested/.exec(ran.stderr)?.[1]
    t.deepEqual(await rowsOf(stack, 'SELECT signal, policy_passed FROM execution.attestations WHERE run_id = $1', id), [
      { signal: 'SIGTERM', policy_passed: false },
    ])
    const killed = await deaf.ended
    t.is(killed.code, 5, killed.stderr)
    const deafId = /run ([0-9a-f-]{36}) attested/.exec(killed.stderr)?.[1]
    t.deepEqual(await rowsOf(stack, 'SELECT signal FROM execution.attestations WHERE run_id = $1', deafId), [
      { signal: 'SIGKILL' },
    ])
    await setPolicy(machine, '--approval', 'allow')
  },
)

test.serial(
  'a command whose run lapsed, and whose place another run took, is ended as at any pause; one renewed too often as well',
  async (t) => {
    t.timeout(240_000)
    const { stack, machine, runner } = t.context
    // One that was approved and left holds its place for ten minutes.
    await rowsOf(stack, 'DELETE FROM execution.open_runs')
    await setPolicy(machine, '--max-parallel', '1')
    const command = standing(machine, 'lapsed')
    await command.stands()
    const [{ id } = { id: '' }] = await rowsOf<{ id: string }>(
      stack,
      'SELECT id FROM execution.runs ORDER BY issued_at DESC LIMIT 1',
    )
    await t.throwsAsync(runner.permit({ command: ['agent'] }), { code: 'policy_denied' })
    const taken: Run[] = []
    await until(async () => {
      // As after a minute with no renewal; one that comes just now takes the place back.
      await rowsOf(
        stack,
        `WITH last AS (
           INSERT INTO agents.policy_evaluations
             (run_id, lenser_id, phase, verdict, reason, asked_at, covered_until, renewals)
           SELECT r.id, e.lenser_id, 'renewal', e.verdict, e.reason, now() - interval '61 seconds', now() - interval '1 second', e.renewals
             FROM execution.runs r JOIN agents.policy_evaluations e ON e.run_id = r.id
            WHERE r.id = $1 AND e.verdict = 'allow' ORDER BY e.id DESC LIMIT 1 FOR NO KEY UPDATE OF r)
         UPDATE execution.open_runs SET open_until = now() - interval '1 second' WHERE run_id = $1`,
        id,
      )
      const other = await runner.permit({ command: ['agent'], heartbeatMs: 500 }).catch(({ code }) => code)
      if (other !== 'policy_denied') taken.push(other)
      return taken.length > 0
    }, 'that another run takes its place')
    const [run] = taken as [Run]
    await run.start()
    const ran = await command.ended
    t.is(ran.code, 5, ran.stderr)
    t.regex(ran.stderr, /the command is ended\. permit_withdrawn: .*parallel_limit/)
    t.deepEqual(await rowsOf(stack, 'SELECT signal, policy_passed FROM execution.attestations WHERE run_id = $1', id), [
      { signal: 'SIGTERM', policy_passed: false },
    ])
    // As if it had been renewed as often as may be.
    await rowsOf(
      stack,
      `INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, covered_until, renewals)
       SELECT r.id, e.lenser_id, 'renewal', e.verdict, e.reason, e.asked_at, e.covered_until, $2
         FROM execution.runs r JOIN agents.policy_evaluations e ON e.run_id = r.id WHERE r.id = $1
        ORDER BY e.id DESC LIMIT 1 FOR NO KEY UPDATE OF r`,
      ...[run.permit.runId, limits.renewalsPerRun],
    )
    await until(async () => run.signal.aborted, 'that it is not renewed any more')
    t.is((run.signal.reason as { code: string }).code, 'renewal_limit')
    t.is(factsOf(await run.complete({ exitCode: 0 })).policy_passed, true, 'what was covered counts')
    run.close()
    await setPolicy(machine, '--max-parallel', 'none')
  },
)

/** Stops whoever judges runs where it stands, until what is returned is called. */
const silence = (stack: Stack): (() => void) => {
  const pid = stack.workers('trust-evaluator')[0]?.pid as number
  process.kill(pid, 'SIGSTOP')
  return () => void process.kill(pid, 'SIGCONT')
}

/** A runner that stands still while it is answered, until the answer holds no longer: with which codes its requests end. */
const lateRunner = (machine: Machine) => {
  const file = fileURLToPath(new URL('_late-runner.ts', import.meta.url))
  const child = spawn(process.execPath, [file, join(machine.state, 'daemon.sock')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise((resolve) => child.once('close', resolve))
  return {
    child,
    permitted: () => until(async () => said.includes('permitted\n'), 'its permits'),
    codes: async (): Promise<unknown> => {
      await ended
      return JSON.parse(said.split('\n')[1] ?? '')
    },
  }
}

test.serial(
  'PE-2: with the gateway silent a permit holds its 60 s and no longer; a new answer is asked for',
  async (t) => {
    t.timeout(300_000)
    const { stack, machine, runner } = t.context
    const command = standing(machine, 'uncovered')
    await command.stands()
    const late = lateRunner(machine)
    t.teardown(() => late.child.kill('SIGKILL'))
    await late.permitted()
    let lapses = 0
    const asked = performance.now()
    const onLapsed = () => {
      lapses += 1
    }
    const run = await runner.permit({ command: ['agent'], heartbeatMs: 500, onLapsed })
    const goOn = silence(stack)
    const silent = performance.now()
    const run_id = run.permit.runId
    const start = () =>
      machine.askDaemon('run.start', { run_id }).catch(({ code }: { code: string }) => ({ code, valid_ms: 0 }))
    const told = /^lf: this run’s permit ended and was not renewed \(permit_expired\)\. The command goes on\.$/gm
    let held = 0
    try {
      await until(async () => {
        const before = performance.now()
        const said = (await start()) as { code?: string; valid_ms?: number }
        if (said.code !== undefined) return said.code === 'permit_expired'
        held += 1
        // Whatever it rests on was asked for before the gateway fell silent.
        t.true(Number(said.valid_ms) <= 60_000 - (before - silent))
        return false
      }, 'that the permit lapses')
      t.true(held > 0)
      t.true(performance.now() - asked >= 59_000, 'it held that long')
      t.deepEqual(await late.codes(), ['permit_expired', 'permit_expired'])
      await until(async () => told.test(command.said()), 'that lf run says so')
      // Each is refused after a while, in which both runs are asked about again: they say it once.
      for (let times = 0; times < 3; times += 1)
        await t.throwsAsync(machine.askDaemon('run.heartbeat', { run_id }), { code: 'permit_expired' })
      t.is(lapses, 1)
    } finally {
      goOn()
    }
    await run.start()
    t.is((await run.complete({ exitCode: 0 })).state, 'done')
    run.close()
    command.release()
    const ran = await command.ended
    t.is(ran.code, 0, ran.stderr)
    t.is(ran.stderr.match(told)?.length, 1, ran.stderr)
  },
)

test.serial(
  'a run that nobody waits for any more is asked about until its result is known; its permit is taken back and runs nothing',
  async (t) => {
    const { stack, machine } = t.context
    const run = { command_hash: hashCommand(['agent']), inputs: [] }
    const newest = (count: number) => {
      const store = openStore(join(machine.state, 'state.db'))
      const rows = store.all<{ state: string; attempts: number; unwanted: number; run_id: string; back: number }>(
        `SELECT o.state, o.attempts, o.unwanted, o.outcome ->> '$.result.run_id' AS run_id,
                EXISTS (SELECT 1 FROM operations w WHERE w.kind = 'run_withdraw' AND w.state = 'done'
                           AND w.body ->> '$.run_id' = o.outcome ->> '$.result.run_id') AS back
           FROM operations o WHERE o.kind = 'run_start' ORDER BY o.rowid DESC LIMIT ?`,
        count,
      )
      store.close()
      return rows
    }
    const goOn = silence(stack)
    t.teardown(goOn)
    await t.throwsAsync(machine.askDaemon('run.permit', { run, timeout_ms: 300 }), { code: 'answer_timeout' })
    const client = await connectDaemon(join(machine.state, 'daemon.sock'))
    const left = t.throwsAsync(client.request('run.permit', { run, timeout_ms: 60_000 }), {
      code: 'daemon_unreachable',
    })
    await until(async () => Number(newest(1)[0]?.attempts) >= 2, 'another try')
    client.close()
    await left
    await until(async () => newest(1)[0]?.unwanted === 1, 'that it is given up')
    const gone = newest(2)
    t.true(gone.every(({ unwanted, run_id }) => unwanted === 1 && run_id === null))
    t.like((await machine.status()).outbox, { unwanted: 2 })
    t.regex((await machine.lf(['gateway', 'status'])).stdout, /\(of 2 nobody waits for it any more\)/)
    await until(async () => newest(2).some(({ attempts }, n) => attempts > Number(gone[n]?.attempts)), 'more tries')
    const wanted = machine.askDaemon('run.permit', { run, timeout_ms: 60_000 })
    await until(async () => newest(3).length === 3 && Number(newest(1)[0]?.attempts) > 0, 'that it is asked')
    goOn()
    const { verdict, run_id } = await wanted
    t.is(verdict, 'allow')
    await until(
      async () =>
        newest(3)
          .slice(1)
          .every(({ back }) => back === 1),
      'that their permits are taken back',
    )
    t.like(newest(1)[0], { run_id, unwanted: 0, back: 0 })
    const { runs } = await machine.ask<{ runs: { run_id: string; reason: string }[] }>('gateway', 'runs')
    t.deepEqual(
      newest(3).map((one) => runs.find((each) => each.run_id === one.run_id)?.reason === 'withdrawn'),
      [false, true, true],
    )
  },
)

/** Whether a process has a file open (Linux). */
const hasOpen = (pid: number, file: string): boolean =>
  readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`) === file
    } catch {
      return false
    }
  })

test.serial('Ctrl-C while a long output is hashed loses the output, and not the attestation', async (t) => {
  const { stack, machine } = t.context
  const [big, small] = [join(machine.home, 'big'), join(machine.home, 'small')]
  const words = ['run', '--output', small, '--output', big, '--report', 'interrupted.json']
  // Sparse: it takes no room, and longer to read than anybody waits.
  const running = machine.lfStarted([...words, '--', 'sh', '-c', `touch small; exec truncate -s 1T '${big}'`])
  await until(async () => hasOpen(running.child.pid as number, big), 'that it is hashed')
  running.child.kill('SIGINT')
  const ran = await running.ended
  t.is(ran.code, 0, ran.stderr)
  t.regex(ran.stderr, /interrupted while output .*big was hashed; it is not attested/)
  const kept = /run (\S+): its attestation is kept and not confirmed yet\. See `lf gateway operation (\S+)`/.exec(
    ran.stderr,
  )
  t.truthy(kept, ran.stderr)
  const report = JSON.parse(readFileSync(join(machine.home, 'interrupted.json'), 'utf8')) as Record<string, unknown>
  t.deepEqual([report.state, report.op_id], ['queued', kept?.[2]])
  const attested = () =>
    rowsOf<{ outputs: { name: string }[] }>(
      stack,
      'SELECT outputs FROM execution.attestations WHERE run_id = $1',
      kept?.[1],
    )
  await until(async () => (await attested()).length > 0, 'the attestation')
  t.deepEqual(
    (await attested())[0]?.outputs.map(({ name }) => name),
    [small],
  )
})

/** Runs an example of edge/runner as a program of its own, on that machine. */
const example = (
  machine: Machine,
  name: string,
  ...words: string[]
): Promise<{ code: unknown; out: string; said: string }> =>
  new Promise((resolve) => {
    const file = fileURLToPath(new URL(`../../edge/runner/examples/${name}`, import.meta.url))
    const options = { env: { ...machine.env, RUNNER: bound }, cwd: machine.home }
    execFile(process.execPath, [file, ...words], options, (error, out, said) => {
      resolve({ code: error === null ? 0 : error.code, out, said })
    })
  })

test.serial(
  'the examples do what they say: a wrapped command, and an agent that goes on without a denied tool',
  async (t) => {
    const { stack, machine } = t.context
    const wrapped = await example(machine, '1-wrap-a-command.ts', 'echo', 'hello')
    t.deepEqual([wrapped.code, wrapped.out], [0, 'hello\n'], wrapped.said)
    t.regex(wrapped.said, /^run [0-9a-f-]{36}: done, /m)
    const missing = await example(machine, '1-wrap-a-command.ts', 'no-such-command')
    t.deepEqual([missing.code, missing.out], [127, ''])
    t.regex(missing.said, /^no-such-command: .*\nrun [0-9a-f-]{36}: done, \S+\n$/)
    const refused = await example(machine, '2-local-agent.ts', 'no-such-file')
    t.deepEqual([refused.code, refused.out], [1, ''])
    t.regex(refused.said, /^input_unreadable: .*no-such-file\)\n$/)
    const toolsOf = (said: string) =>
      rowsOf<{ tool: string; verdict: string }>(
        stack,
        'SELECT tool, verdict FROM agents.tool_invocations WHERE run_id = $1 ORDER BY seq',
        /^run ([0-9a-f-]{36}): done/m.exec(said)?.[1],
      )
    writeFileSync(join(machine.home, 'words.txt'), 'one two\nthree')
    await setPolicy(machine, '--deny-tool', 'net/*')
    const agent = await example(machine, '2-local-agent.ts', 'words.txt')
    t.deepEqual([agent.code, agent.out], [0, '3 words; net/fetch: denied\n'], agent.said)
    t.deepEqual(await toolsOf(agent.said), [
      { tool: 'fs/read', verdict: 'allow' },
      { tool: 'net/fetch', verdict: 'deny' },
      { tool: 'text/count', verdict: 'allow' },
    ])
    await setPolicy(machine, '--allow-tool', 'net/*')
    t.is((await example(machine, '2-local-agent.ts', 'words.txt')).out, '3 words; net/fetch: failed\n')
  },
)

test.serial('a command that runs when its device is taken out of service is ended, with what it started', async (t) => {
  const { machine } = t.context
  const script = 'sh -c "echo \\$\\$ > child.pid; sleep 300; :" & wait'
  const command = machine.lfStarted(['run', '--', 'sh', '-c', script])
  await until(async () => existsSync(join(machine.home, 'child.pid')), 'that the child runs')
  const child = Number(readFileSync(join(machine.home, 'child.pid'), 'utf8'))
  await machine.ask('gateway', 'suspend-device', 'machine', '--yes', '--reason', 'test')
  const ran = await command.ended
  t.is(ran.code, 5, ran.stderr)
  t.regex(ran.stderr, /the command is ended\. device_unhealthy: /)
  t.false(existsSync(`/proc/${child}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${child}/status`, 'utf8')))
  await machine.ask('gateway', 'reinstate-device', 'machine', '--yes')
  await until(async () => (await machine.status()).trust_level === 'approved', 'that it may run again')
})

test.serial('RH-3: a device that its owner suspended starts nothing, permits or not', async (t) => {
  const { machine, runner } = t.context
  const run = await runner.permit({ command: ['agent'], runner: bound, heartbeatMs: 500 })
  await machine.ask('gateway', 'suspend-device', 'machine', '--yes', '--reason', 'test')
  await until(async () => (await machine.status()).trust_level === 'unhealthy')
  await t.throwsAsync(run.start(), { code: 'device_unhealthy' })
  await t.throwsAsync(run.tool('fs/read'), { code: 'device_unhealthy' })
  await until(async () => run.signal.aborted, 'that the run is told')
  t.is((run.signal.reason as { code: string }).code, 'device_unhealthy')
  await t.throwsAsync(runner.permit({ command: ['agent'], runner: bound }), { code: 'device_unhealthy' })
  run.close()
  const ran = await machine.lf(['run', '--', 'touch', 'unfit'])
  t.is(ran.code, 5)
  t.false(existsSync(join(machine.home, 'unfit')))
})
