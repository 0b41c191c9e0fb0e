import { newUuidV7 } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { addSetting, addSubmission, attestation, runRenew, runStart, type Setting } from '../_bodies.ts'
import { bytesOf, createWorld, type Outcome, type World } from '../_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const setPolicy = async ({ lenser }: Setting, settings: Record<string, unknown>): Promise<void> => {
  await world.owner.query('INSERT INTO agents.workspace_settings (lenser_id) VALUES ($1) ON CONFLICT DO NOTHING', [
    lenser,
  ])
  for (const [name, value] of Object.entries(settings)) {
    await world.owner.query(`UPDATE agents.workspace_settings SET ${name} = $2 WHERE lenser_id = $1`, [lenser, value])
  }
}
const start = async ({ device }: Setting, more: Record<string, unknown> = {}) => {
  const { result } = await world.send(device, runStart(more))
  return result as { run_id: string; verdict: string; covered_until: number; approval_expires_at: number | null }
}
const renew = (setting: Setting, runs: readonly unknown[], stored = Date.now()): Promise<Outcome> =>
  world.send(setting.device, runRenew(runs), { stored })
const renewOne = async (setting: Setting, run: string) => (await renew(setting, [run])).result.runs[0]
const evaluations = async (run: string) =>
  (
    await world.owner.query(
      `SELECT phase, verdict, reason, asked_at, covered_until FROM agents.policy_evaluations WHERE run_id = $1 ORDER BY id`,
      [run],
    )
  ).rows as { phase: string; verdict: string; reason: string; asked_at: Date; covered_until: Date | null }[]
/** A person's answer, by the row that `agents.fn_approval_decide` leaves. */
const decide = (run: string, decision: 'approve' | 'deny') =>
  world.owner.query(
    'UPDATE agents.approvals SET decision = $2, decided_at = clock_timestamp(), decided_by = $3 WHERE run_id = $1',
    [run, decision, newUuidV7()],
  )
const expire = (run: string) =>
  world.owner.query(
    `UPDATE agents.approvals SET requested_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'
      WHERE run_id = $1`,
    [run],
  )

test('PE-2: what is allowed is covered for 60 s from the store time of what asked for it, at the start and at each renewal', async (t) => {
  t.true(limits.permitSeconds <= 60)
  const setting = await addSetting(world)
  const began = Date.now() - 50_000
  const later = [began + 30_000, began + 49_000]
  const { result } = await world.send(setting.device, runStart(), { stored: began })
  t.is(result.covered_until, began + limits.permitSeconds * 1000)
  for (const at of later) {
    const [renewed] = (await renew(setting, [result.run_id], at)).result.runs
    t.deepEqual(renewed, {
      run_id: result.run_id,
      verdict: 'allow',
      reason: 'approval_default_allow',
      covered_until: at + limits.permitSeconds * 1000,
      denied_tools: [],
      approval_expires_at: null,
    })
  }
  const rows = await evaluations(result.run_id)
  t.deepEqual(
    rows.map(({ phase }) => phase),
    ['start', 'renewal', 'renewal'],
  )
  for (const [n, { asked_at, covered_until }] of rows.entries()) {
    t.is(asked_at.getTime(), [began, ...later][n] ?? 0)
    t.is((covered_until?.getTime() ?? 0) - asked_at.getTime(), limits.permitSeconds * 1000)
  }
})

test('PE-1: the kill switch, a pause and a default that denies are judged again at a renewal; bounds are not, of what holds its place', async (t) => {
  for (const [settings, verdict, reason] of [
    [{ global_kill_switch: true }, 'deny', 'kill_switch'],
    [{ runner_paused: true }, 'pause', 'runner_paused'],
    [{ approval_default: 'deny' }, 'deny', 'approval_default_deny'],
    [{ global_kill_switch: true, runner_paused: true, approval_default: 'deny' }, 'deny', 'kill_switch'],
    [{ runner_paused: true, approval_default: 'deny' }, 'pause', 'runner_paused'],
    [{ approval_default: 'require_human' }, 'allow', 'approval_default_allow'],
    [{ dark_launch_percent: 0 }, 'allow', 'approval_default_allow'],
  ] as const) {
    const setting = await addSetting(world)
    const { run_id } = await start(setting, { version_id: setting.version })
    await world.owner.query('INSERT INTO agents.quotas (lenser_id, daily_runs, max_parallel_runs) VALUES ($1, 0, 0)', [
      setting.lenser,
    ])
    await setPolicy(setting, settings)
    t.like(await renewOne(setting, run_id), { verdict, reason })
    t.like((await evaluations(run_id)).at(-1), { phase: 'renewal', verdict, reason })
  }
})

test('rule 6: after a deny on a renewal it stays denied; after a pause it may go on', async (t) => {
  const setting = await addSetting(world)
  const [denied, paused] = [await start(setting), await start(setting)]
  await setPolicy(setting, { runner_paused: true })
  t.like(await renewOne(setting, paused.run_id), { verdict: 'pause', covered_until: null })
  await setPolicy(setting, { runner_paused: false })
  t.like(await renewOne(setting, paused.run_id), { verdict: 'allow' })
  await setPolicy(setting, { global_kill_switch: true })
  t.like(await renewOne(setting, denied.run_id), { verdict: 'deny', covered_until: null })
  await setPolicy(setting, { global_kill_switch: false })
  t.like(await renewOne(setting, denied.run_id), { verdict: 'deny', reason: 'kill_switch', covered_until: null })
  t.like(await renewOne(setting, paused.run_id), { verdict: 'allow' })
})

test('PE-3: a run whose start was denied or paused stays so, whatever its owner says later', async (t) => {
  for (const [settings, verdict] of [
    [{ approval_default: 'deny' }, 'deny'],
    [{ runner_paused: true }, 'pause'],
  ] as const) {
    const setting = await addSetting(world)
    await setPolicy(setting, settings)
    const { run_id } = await start(setting)
    await setPolicy(setting, { approval_default: 'allow', runner_paused: false })
    const said = {
      verdict,
      reason: verdict === 'deny' ? 'approval_default_deny' : 'runner_paused',
      covered_until: null,
    }
    t.like(await renewOne(setting, run_id), said)
    await setPolicy(setting, { global_kill_switch: true })
    t.like(await renewOne(setting, run_id), said)
  }
})

test('a run that awaits a person is covered from its first renewal after the approval, and not before', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human' })
  const permit = await start(setting)
  t.like(permit, { verdict: 'require_approval', covered_until: null })
  const waiting = await renewOne(setting, permit.run_id)
  t.like(waiting, {
    verdict: 'require_approval',
    reason: 'approval_default_require_human',
    covered_until: null,
    approval_expires_at: permit.approval_expires_at,
  })
  // Nothing runs that a pause could end, and a pause on record would cost it policy_passed.
  await setPolicy(setting, { runner_paused: true })
  t.like(await renewOne(setting, permit.run_id), { verdict: 'require_approval' })
  await decide(permit.run_id, 'approve')
  t.like(await renewOne(setting, permit.run_id), { verdict: 'pause' })
  await setPolicy(setting, { runner_paused: false })
  const stored = Date.now()
  const [allowed] = (await renew(setting, [permit.run_id], stored)).result.runs
  t.like(allowed, { verdict: 'allow', reason: 'approved', covered_until: stored + limits.permitSeconds * 1000 })
  await setPolicy(setting, { global_kill_switch: true })
  t.like(await renewOne(setting, permit.run_id), { verdict: 'deny', reason: 'kill_switch' })
})

test('a run that nobody approved in time, or that was denied, is denied for good', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human' })
  const [late, refused] = [await start(setting), await start(setting)]
  await expire(late.run_id)
  await decide(refused.run_id, 'deny')
  for (const _ of [1, 2]) {
    t.like(await renewOne(setting, late.run_id), { verdict: 'deny', reason: 'approval_expired', covered_until: null })
    t.like(await renewOne(setting, refused.run_id), { verdict: 'deny', reason: 'approval_denied', covered_until: null })
  }
})

test('runs that are unknown, another’s, another device’s or over have their code; their neighbours are renewed', async (t) => {
  const [mine, other] = [await addSetting(world), await addSetting(world)]
  const sibling = { ...mine, device: await world.addDevice(mine.lenser) }
  const permits = await Promise.all([start(mine), start(other), start(sibling), start(mine)])
  const [good, foreign, siblings, over] = permits.map(({ run_id }) => run_id)
  await world.send(mine.device, attestation({ run_id: over }))
  const unknown = newUuidV7()
  const { result } = await renew(mine, [unknown, foreign, siblings, over, good, good])
  t.deepEqual(result.runs.slice(0, 4), [
    { run_id: unknown, code: 'unknown_run' },
    { run_id: foreign, code: 'run_not_owned' },
    { run_id: siblings, code: 'run_not_owned' },
    { run_id: over, code: 'run_ended' },
  ])
  t.is(result.runs.length, 5, 'one that is named twice is renewed once')
  t.like(result.runs[4], { run_id: good, verdict: 'allow' })
  for (const run of [foreign, siblings, over]) t.is((await evaluations(run as string)).length, 1)
  t.is((await evaluations(good as string)).length, 2)
})

test('DH-5: a renewal that comes again changes nothing and has the result that it had, in a batch, at once and later', async (t) => {
  const setting = await addSetting(world)
  const { run_id } = await start(setting)
  const text = await world.seal(setting.device, runRenew([run_id, newUuidV7()]))
  const first = await world.apply('run_renew', [text, text])
  const again = await Promise.all([1, 2, 3].map(() => world.apply('run_renew', [text])))
  await setPolicy(setting, { global_kill_switch: true, denied_tools: ['mcp/*'] })
  await world.setLevel(setting.device, 'unhealthy')
  const later = await world.apply('run_renew', [text])
  for (const { result } of [...first, ...again.flat(), ...later]) t.deepEqual(result, first[0]?.result)
  t.is((await evaluations(run_id)).length, 2)
  t.is((await world.send(setting.device, runRenew([run_id]))).code, 'device_unhealthy')
})

test('three evaluators with one renewal at once judge it once', async (t) => {
  const setting = await addSetting(world)
  const runs = await Promise.all(Array.from({ length: 8 }, async () => (await start(setting)).run_id))
  const texts = await Promise.all([
    world.seal(setting.device, runRenew(runs)),
    world.seal(setting.device, runRenew(runs.toReversed())),
  ])
  const outcomes = await Promise.all([texts, texts.toReversed(), texts].map((both) => world.apply('run_renew', both)))
  for (const { ok, result } of outcomes.flat()) {
    t.true(ok)
    t.deepEqual(new Set(result.runs.map(({ verdict }: { verdict: string }) => verdict)), new Set(['allow']))
  }
  for (const run of runs) t.is((await evaluations(run)).length, 3)
})

test('AU-2: a renewal is on record in the chain where it changes what was recorded last, and as a row of evidence always', async (t) => {
  const setting = await addSetting(world)
  const { run_id } = await start(setting)
  const still = await start(setting)
  await renew(setting, [run_id, still.run_id])
  await setPolicy(setting, { runner_paused: true })
  const paused = await renew(setting, [run_id])
  await renew(setting, [run_id])
  await setPolicy(setting, { runner_paused: false })
  const on = await renew(setting, [run_id, still.run_id])
  const { rows } = await world.owner.query(
    `SELECT digest, device_id, lenser_id, payload FROM audit.pending WHERE kid = $1 AND event_kind = 'run_renew' ORDER BY id`,
    [setting.device.id],
  )
  t.deepEqual(
    rows.map(({ digest, payload }) => [digest.toString('base64url'), payload]),
    [
      [paused.digest, { ok: true, result: paused.result }],
      [on.digest, { ok: true, result: { runs: [on.result.runs[0]] } }],
    ],
  )
  t.like(rows[0], { device_id: setting.device.id, lenser_id: setting.lenser })
  t.is((await evaluations(run_id)).length, 5)
})

test('denied tools are told as they are now; a renewal without a claim renews nothing', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { denied_tools: ['shell', 'mcp/*'] })
  const { result } = await world.send(setting.device, runStart())
  t.deepEqual(result.denied_tools, ['shell', 'mcp/*'])
  await setPolicy(setting, { denied_tools: ['shell'] })
  t.deepEqual((await renewOne(setting, result.run_id)).denied_tools, ['shell'])
  const text = await world.seal(setting.device, runRenew([result.run_id]), { verdict: 'none' })
  t.is((await world.apply('run_renew', [text]))[0]?.code, 'claim_expired')
  t.is((await evaluations(result.run_id)).length, 2)
})

test('what is kept to answer repetitions is forgotten after an hour', async (t) => {
  const setting = await addSetting(world)
  const { run_id } = await start(setting)
  await world.owner.query(
    `INSERT INTO execution.run_renewals (device_id, stored_at, digest) VALUES ($1, now() - interval '2 hours', $2)`,
    [setting.device.id, bytesOf(1)],
  )
  await renew(setting, [run_id])
  const { rows } = await world.owner.query('SELECT digest FROM execution.run_renewals WHERE device_id = $1', [
    setting.device.id,
  ])
  t.is(rows.length, 1)
  t.notDeepEqual(rows[0].digest, bytesOf(1))
})

test('an approved run takes its submission only by the approval', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human' })
  const submission_id = await addSubmission(world, setting.lenser)
  const { run_id } = await start(setting, { submission_id })
  await renew(setting, [run_id])
  t.is((await world.owner.query('SELECT FROM execution.links WHERE run_id = $1', [run_id])).rows.length, 0)
})

test('hundreds of renewals that name many runs each cost no square of them', async (t) => {
  const setting = await addSetting(world)
  const starts = await Promise.all(
    Array.from({ length: limits.renewalsPerRequest }, () => world.seal(setting.device, runStart())),
  )
  const runs = (await world.apply('run_start', starts)).map(({ result }) => result.run_id)
  const texts = await Promise.all(Array.from({ length: 256 }, () => world.seal(setting.device, runRenew(runs))))
  const client = await world.evaluator.connect()
  await client.query(`SET statement_timeout = '15s'`)
  const { rows } = await client.query('SELECT outcome FROM execution.fn_run_renew($1)', [texts])
  await client.query('RESET statement_timeout')
  client.release()
  t.is(rows.length, texts.length)
  for (const { outcome } of rows) t.is(outcome.result.runs.length, runs.length)
})

test('a run that was approved holds its place among those under way as long as it is covered, not as long as it might have waited', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human', approval_seconds: 86_400 })
  const { run_id } = await start(setting)
  const openUntil = async () =>
    (
      await world.one<{ open_until: Date }>('SELECT open_until FROM execution.open_runs WHERE run_id = $1', [run_id])
    ).open_until.getTime()
  await decide(run_id, 'approve')
  t.true((await openUntil()) > Date.now() + 80_000_000, 'until it is fetched')
  const first = Date.now()
  await renew(setting, [run_id], first)
  t.is(await openUntil(), first + limits.permitSeconds * 1000)
  await renew(setting, [run_id], first - 10_000)
  t.is(await openUntil(), first + limits.permitSeconds * 1000, 'one that comes late shortens nothing')
})

const setBound = (setting: Setting, most: number | null) =>
  world.owner.query(
    `INSERT INTO agents.quotas (lenser_id, max_parallel_runs) VALUES ($1, $2)
     ON CONFLICT (lenser_id) DO UPDATE SET max_parallel_runs = $2`,
    [setting.lenser, most],
  )
const openUntil = async (run: string) =>
  (
    await world.one<{ open_until: Date } | undefined>('SELECT open_until FROM execution.open_runs WHERE run_id = $1', [
      run,
    ])
  )?.open_until
/** Another run like that one, which nobody judged. */
const copyOf = async (run: string): Promise<string> =>
  (
    await world.one<{ id: string }>(
      `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
       SELECT requester_lenser_id, device_id, uuidv7(), false, command_hash, inputs, started_at
         FROM execution.runs WHERE id = $1 RETURNING id`,
      [run],
    )
  ).id
/** Long enough ago that its cover is over, and it gave its place back. */
const lapsed = () => Date.now() - (limits.permitSeconds + 5) * 1000
const startAt = async ({ device }: Setting, stored: number): Promise<string> =>
  (await world.send(device, runStart(), { stored })).result.run_id
const noPlace = { verdict: 'pause', reason: 'parallel_limit', covered_until: null }

test('a run that lapsed is counted anew when it is renewed: where no place is left it is paused until there is one', async (t) => {
  const setting = await addSetting(world)
  await setBound(setting, 1)
  const idle = await startAt(setting, lapsed())
  const busy = await start(setting)
  t.is(busy.verdict, 'allow')
  t.like(await renewOne(setting, idle), noPlace)
  t.like((await evaluations(idle)).at(-1), { phase: 'renewal', ...noPlace })
  t.like(await renewOne(setting, busy.run_id), { verdict: 'allow' }, 'who holds a place keeps it')
  t.is((await world.send(setting.device, runStart())).result.reason, 'parallel_limit')
  await world.send(setting.device, attestation(busy))
  t.like(await renewOne(setting, idle), { verdict: 'allow', reason: 'approval_default_allow' })
  t.is((await world.send(setting.device, runStart())).result.reason, 'parallel_limit', 'it took the place')
  await setBound(setting, 0)
  t.like(await renewOne(setting, idle), { verdict: 'allow' }, 'and keeps it')
})

test('PE-3: a start for which no place was left stays denied, whatever is free later', async (t) => {
  const setting = await addSetting(world)
  await setBound(setting, 0)
  const { run_id, verdict } = await start(setting)
  t.is(verdict, 'deny')
  await setBound(setting, 5)
  for (const _ of [1, 2]) t.like(await renewOne(setting, run_id), { verdict: 'deny', reason: 'parallel_limit' })
})

test('no more lapsed runs than there are places come back: in one request, one batch, and by replicas at once', async (t) => {
  const back = (outcomes: readonly Outcome[]): number => {
    const allowed = outcomes.flatMap(({ result }) => result.runs).filter(({ verdict }) => verdict === 'allow')
    return new Set(allowed.map(({ run_id }) => run_id)).size
  }
  const setting = await addSetting(world)
  const sibling = { ...setting, device: await world.addDevice(setting.lenser) }
  const idle = async (of: Setting) => {
    const texts = await Promise.all(
      Array.from({ length: 4 }, () => world.seal(of.device, runStart(), { stored: lapsed() })),
    )
    return (await world.apply('run_start', texts)).map(({ result }) => result.run_id)
  }
  const [mine, theirs] = [await idle(setting), await idle(sibling)]
  await setBound(setting, 3)
  t.is(back([await renew(setting, mine.slice(0, 2))]), 2)
  const texts = [
    await world.seal(setting.device, runRenew(mine)),
    await world.seal(setting.device, runRenew(mine.toReversed())),
    await world.seal(sibling.device, runRenew(theirs)),
  ]
  t.is(back(await world.apply('run_renew', texts)), 3, 'two that hold theirs, and one more')

  const racing = await addSetting(world)
  const devices = [racing, { ...racing, device: await world.addDevice(racing.lenser) }]
  const runs = [await idle(racing), await idle(devices[1] as Setting)]
  await setBound(racing, 3)
  const batches = await Promise.all(
    devices.flatMap(({ device }, n) => {
      const ids = runs[n] as string[]
      return ids.map(async (id) => [await world.seal(device, runRenew([id]))])
    }),
  )
  const outcomes = await Promise.all(batches.map((batch) => world.apply('run_renew', batch)))
  t.is(back(outcomes.flat()), 3)
  t.is((await world.send(racing.device, runStart())).result.reason, 'parallel_limit')
})

test('a run that asked before it lapsed keeps its place, whoever took it while its renewal waited for the bounds', async (t) => {
  const setting = await addSetting(world)
  await setBound(setting, 1)
  // Its place ends while the renewal waits.
  const ends = Date.now() + 4_000
  const run = await startAt(setting, ends - limits.permitSeconds * 1000)
  const text = await world.seal(setting.device, runRenew([run]))
  const holder = await world.owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM agents.quotas WHERE lenser_id = $1 FOR UPDATE', [setting.lenser])
    const { pid } = (await holder.query('SELECT pg_backend_pid() AS pid')).rows[0]
    const renewal = world.apply('run_renew', [text])
    const until = async (sql: string, value: unknown, what: string) => {
      for (const end = Date.now() + 60_000; (await world.owner.query(sql, [value])).rows.length === 0; ) {
        if (Date.now() > end) throw new Error(what)
        await new Promise((done) => setTimeout(done, 50))
      }
    }
    const waits = 'SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))'
    await until(waits, pid, 'the renewal does not wait for the bounds')
    const over = 'SELECT FROM execution.open_runs WHERE run_id = $1 AND open_until <= clock_timestamp()'
    await until(over, run, 'its place does not end')
    // As a start does that is judged meanwhile.
    await holder.query(
      `INSERT INTO execution.open_runs (run_id, lenser_id, device_id, open_until)
       SELECT id, requester_lenser_id, device_id, now() + interval '1 minute' FROM execution.runs WHERE id = $1`,
      [await copyOf(run)],
    )
    await holder.query('COMMIT')
    t.like((await renewal)[0]?.result.runs[0], { verdict: 'allow', reason: 'approval_default_allow' })
  } finally {
    holder.release(true)
  }
})

test('renewals that waited behind an outage keep their run, though a start that came later was applied before them', async (t) => {
  const setting = await addSetting(world)
  await setBound(setting, 1)
  const now = Date.now()
  const long = await startAt(setting, now - 100_000)
  const ago = [80, 60, 40, 20].map((seconds) => now - seconds * 1000)
  const waiting = await Promise.all(ago.map((stored) => world.seal(setting.device, runRenew([long]), { stored })))
  t.like((await world.send(setting.device, runStart(), { stored: now - 1000 })).result, { verdict: 'allow' })
  const said = (await world.apply('run_renew', waiting)).map(({ result }) => result.runs[0].verdict)
  t.deepEqual(said, ['allow', 'allow', 'allow', 'allow'])
  // It passes the bound by what started meanwhile; nothing else starts.
  t.like((await world.send(setting.device, runStart())).result, { verdict: 'deny', reason: 'parallel_limit' })
})

test('rule 6: a run that came back after it lapsed, and is attested before that is applied, is counted as well', async (t) => {
  const setting = await addSetting(world)
  await setBound(setting, 1)
  const hoarded = await startAt(setting, lapsed())
  await start(setting)
  const began = Date.now()
  const renewal = await world.seal(setting.device, runRenew([hoarded]), { stored: began })
  const attested = await world.send(
    setting.device,
    attestation({ run_id: hoarded }, { started_at: began + 1, ended_at: began + 50 }),
    { stored: began + 100 },
  )
  t.true(attested.ok)
  t.like((await world.apply('run_renew', [renewal]))[0]?.result.runs[0], noPlace)
  const [{ facts }] = (
    await world.owner.query('SELECT facts FROM execution.fn_compute_submission_trust(ARRAY[$1::uuid])', [hoarded])
  ).rows
  t.false(facts.policy_passed)
})

test('a run whose approval was fetched too late to hold its place waits for one', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human' })
  const [soon, late] = [await start(setting), await start(setting)]
  for (const { run_id } of [soon, late]) await decide(run_id, 'approve')
  await setBound(setting, 0)
  t.like(await renewOne(setting, soon.run_id), { verdict: 'allow', reason: 'approved' }, 'it holds one until then')
  await world.owner.query(
    `UPDATE execution.open_runs SET open_until = now() - interval '10 seconds' WHERE run_id = $1`,
    [late.run_id],
  )
  t.like(await renewOne(setting, late.run_id), noPlace)
  await setBound(setting, null)
  t.like(await renewOne(setting, late.run_id), { verdict: 'allow', reason: 'approved' })
})

test('a run is renewed so often and no more: counted without counting, over batches and a person’s answer', async (t) => {
  const setting = await addSetting(world)
  await setPolicy(setting, { approval_default: 'require_human' })
  const { run_id } = await start(setting)
  const neighbour = await start(setting)
  await renew(setting, [run_id])
  const numbers = async () =>
    (
      await world.owner.query('SELECT renewals FROM agents.policy_evaluations WHERE run_id = $1 ORDER BY id', [run_id])
    ).rows.map(({ renewals }) => renewals)
  t.deepEqual(await numbers(), [0, 1])
  // As if it had been renewed nearly as often as may be.
  await world.owner.query(
    `INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at, renewals)
     VALUES ($1, $2, 'renewal', 'require_approval', 'approval_default_require_human', now(), $3)`,
    [run_id, setting.lenser, limits.renewalsPerRun - 2],
  )
  await decide(run_id, 'approve')
  await world.owner.query(
    `INSERT INTO agents.policy_evaluations (run_id, lenser_id, phase, verdict, reason, asked_at)
     VALUES ($1, $2, 'approval', 'allow', 'approved', now())`,
    [run_id, setting.lenser],
  )
  const at = Date.now()
  const texts = await Promise.all(
    [1, 2, 3].map((n) => world.seal(setting.device, runRenew([run_id, neighbour.run_id]), { stored: at + n })),
  )
  const told = (await world.apply('run_renew', texts)).map(({ result }) => result.runs)
  t.deepEqual(
    told.map(([mine]) => mine.code ?? mine.verdict),
    ['allow', 'allow', 'renewal_limit'],
  )
  t.deepEqual(told[2][0], { run_id, code: 'renewal_limit' })
  for (const [, other] of told) t.is(other.verdict, 'require_approval')
  t.deepEqual((await numbers()).slice(3), [0, limits.renewalsPerRun - 1, limits.renewalsPerRun])
  t.is((await renewOne(setting, run_id)).code, 'renewal_limit')
  t.is((await numbers()).length, 6, 'what is over leaves no row')
  t.is((await openUntil(run_id))?.getTime(), at + 2 + limits.permitSeconds * 1000, 'and covers nothing')
})
