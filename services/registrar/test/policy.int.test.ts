import { randomUUID } from 'node:crypto'
import { encodeKey, newUuidV7 } from '@lenserfight/envelope'
import { limits } from '@lenserfight/schemas'
import { makeSubmission, makeVersion } from '@lenserfight/testkit'
import test from 'ava'
import type { Outcome } from '../src/ask/outcome.ts'
import { codeOf, type Device, newKey, operation, resultOf, type Session, sign, useWorld } from './_world.ts'

const world = useWorld(test)

const defaults = {
  approval_default: 'allow',
  runner_paused: false,
  daily_runs: null,
  max_parallel_runs: null,
  dark_launch_percent: 100,
  approval_seconds: limits.approvalSeconds,
  denied_tools: [],
  kill_switch: false,
}
const show = async (session: Session) => resultOf(await world().ask(session, 'policy_show', {}))
const set = (session: Session, members: object) => world().ask(session, 'policy_set', operation(members))
const tried = async (session: Session, members: object = {}) =>
  resultOf(await world().ask(session, 'policy_test', members))
const decide = (asker: Session, run_id: string, decision: 'approve' | 'deny', members: object = {}) =>
  world().ask(asker, 'approval_decide', operation({ run_id, decision, ...members }))
const list = async (session: Session) =>
  resultOf(await world().ask(session, 'approvals', {})) as { approvals: Record<string, unknown>[]; more: boolean }
const newApiKey = async (session: Session, may_approve: boolean): Promise<Session> => {
  const key = newKey()
  const members = { name: key.kid, may_approve, expires_in_days: 1, public_key: encodeKey(key.publicKey) }
  resultOf(await world().ask(session, 'api_key_create', operation(members)))
  return { ...key, lenser: session.lenser }
}
const commandHash = encodeKey(new Uint8Array(32).fill(7))
/** A run of a device, through both doors; its permit. */
const startRun = async (device: Device, members: object = {}) => {
  const signed = sign(device, 'run_start', operation({ command_hash: commandHash, inputs: [], ...members }))
  const verdict = await world().claimIngress(signed)
  if (verdict !== 'ok') throw new Error(verdict)
  const [row] = await world().query<{ outcome: Outcome }>('SELECT outcome FROM execution.fn_run_start($1)', [
    [signed.text],
  ])
  return resultOf(row?.outcome as Outcome) as { run_id: string; verdict: string; approval_expires_at: number }
}
const countRows = async (table: string, session: Session): Promise<number> =>
  Number(
    (await world().query<{ n: string }>(`SELECT count(*) AS n FROM ${table} WHERE lenser_id = $1`, [session.lenser]))[0]
      ?.n,
  )
const audited = (session: Session, kind: string) =>
  world().query<{ payload: Record<string, unknown> }>(
    'SELECT payload FROM audit.pending WHERE kid = $1 AND event_kind = $2 ORDER BY id',
    [session.kid, kind],
  )

test('policy_show: an account that never set anything has the defaults', async (t) => {
  t.deepEqual(await show(await world().newSession()), {
    settings: defaults,
    used: { runs_today: 0, parallel_runs: 0 },
    changed_at: null,
  })
})

test('policy_set: what is named changes, what is absent stays, null takes a bound away; and it is another account’s no less', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const first = {
    approval_default: 'require_human',
    daily_runs: 7,
    max_parallel_runs: 2,
    denied_tools: ['shell', 'mcp/*', 'shell'],
  }
  const { settings, changed_at } = resultOf(await set(mine, first)) as { settings: object; changed_at: number }
  t.deepEqual(settings, { ...defaults, ...first, denied_tools: ['mcp/*', 'shell'] })
  t.true(Math.abs(changed_at - Date.now() / 1000) < 60)
  t.like(resultOf(await set(mine, { max_parallel_runs: 2 })).settings as object, {
    daily_runs: 7,
    max_parallel_runs: 2,
  })
  const second = { runner_paused: true, daily_runs: null, dark_launch_percent: 5, approval_seconds: 30 }
  const is = resultOf(await set(mine, second))
  t.deepEqual(is.settings, { ...settings, ...second })
  t.deepEqual(await show(mine), is)
  t.deepEqual((await show(theirs)).settings, defaults)
  t.deepEqual(resultOf(await set(mine, {})).settings, is.settings)
})

test('AU-2: what a change of the policy changed is on record, and nothing else', async (t) => {
  const session = await world().newSession()
  resultOf(await set(session, { runner_paused: true, approval_default: 'allow', daily_runs: 3 }))
  resultOf(await set(session, { runner_paused: false, daily_runs: null }))
  const records = await audited(session, 'policy_set')
  t.deepEqual(
    records.map(({ payload }) => payload.changed),
    [
      { runner_paused: true, daily_runs: 3 },
      { runner_paused: false, daily_runs: null },
    ],
  )
})

test('not_permitted: what loosens is its owner’s alone; an API key may look, one that approves may decide', async (t) => {
  const session = await world().newSession()
  const keys = await Promise.all([false, true].map((may_approve) => newApiKey(session, may_approve)))
  const codes = async (asker: Session) => [
    codeOf(await world().ask(asker, 'policy_show', {})),
    codeOf(await world().ask(asker, 'policy_test', {})),
    codeOf(await world().ask(asker, 'approvals', {})),
    codeOf(await set(asker, { runner_paused: true })),
    codeOf(await decide(asker, newUuidV7(), 'approve')),
  ]
  t.deepEqual(await Promise.all([...keys, session].map(codes)), [
    ['ok', 'ok', 'ok', 'not_permitted', 'not_permitted'],
    ['ok', 'ok', 'ok', 'not_permitted', 'unknown_run'],
    ['ok', 'ok', 'ok', 'ok', 'unknown_run'],
  ])
})

test('malformed_body: denied tools that no answer to a device could carry are refused', async (t) => {
  const session = await world().newSession()
  const denied_tools = Array.from({ length: 250 }, (_, n) => `tool-${n}`)
  t.is(codeOf(await set(session, { denied_tools, runner_paused: true })), 'malformed_body')
  t.deepEqual((await show(session)).settings, defaults)
  t.is(codeOf(await set(session, { denied_tools: denied_tools.slice(0, 150) })), 'ok')
})

const deniedOf = async (session: Session) => (await show(session)).settings as { denied_tools: string[] }

test('policy_set: denied tools are added and taken away one by one, or replaced whole, and not both', async (t) => {
  const session = await world().newSession()
  resultOf(await set(session, { denied_tools_add: ['shell', 'mcp/*', 'shell'] }))
  t.deepEqual((await deniedOf(session)).denied_tools, ['mcp/*', 'shell'])
  resultOf(await set(session, { denied_tools_add: ['net'], denied_tools_remove: ['shell', 'never-denied'] }))
  t.deepEqual((await deniedOf(session)).denied_tools, ['mcp/*', 'net'])
  resultOf(await set(session, { runner_paused: true }))
  resultOf(await set(session, { denied_tools_remove: ['net', 'mcp/read'] }))
  t.deepEqual((await deniedOf(session)).denied_tools, ['mcp/*'])
  for (const members of [
    { denied_tools: ['a'], denied_tools_add: ['b'] },
    { denied_tools: [], denied_tools_remove: ['mcp/*'] },
    { denied_tools_add: ['a', 'b'], denied_tools_remove: ['b'] },
  ]) {
    t.is(codeOf(await set(session, { ...members, runner_paused: false })), 'malformed_body')
  }
  t.like(await deniedOf(session), { denied_tools: ['mcp/*'], runner_paused: true })
  resultOf(await set(session, { denied_tools: [] }))
  t.deepEqual((await deniedOf(session)).denied_tools, [])
})

test('malformed_body: the bounds on denied tools hold for what comes of what is added', async (t) => {
  const session = await world().newSession()
  // Each is short enough alone: what is over is the sum, of its bytes or of its number.
  const long = (from: number) => Array.from({ length: 80 }, (_, n) => `tool/${from + n}`)
  t.is(codeOf(await set(session, { denied_tools_add: long(100) })), 'ok')
  t.is(codeOf(await set(session, { denied_tools_add: long(200) })), 'ok')
  t.is(codeOf(await set(session, { denied_tools_add: long(300) })), 'malformed_body')
  t.is((await deniedOf(session)).denied_tools.length, 160)
  t.is(codeOf(await set(session, { denied_tools_remove: long(100), denied_tools_add: long(300) })), 'ok')
  const short = Array.from({ length: limits.deniedTools }, (_, n) => n.toString(36))
  t.is(codeOf(await set(session, { denied_tools: short })), 'ok')
  t.is(codeOf(await set(session, { denied_tools_add: short })), 'ok')
  t.is(codeOf(await set(session, { denied_tools_add: ['zz'] })), 'malformed_body')
  t.is(codeOf(await set(session, { denied_tools_remove: ['0'], denied_tools_add: ['zz'] })), 'ok')
})

test('what two sessions add and take away at once is all there: neither undoes the other’s', async (t) => {
  const subject = randomUUID()
  const [one, two] = [await world().newSession(subject), await world().newSession(subject)]
  t.is(one.lenser, two.lenser)
  resultOf(await set(one, { denied_tools: ['net', 'shell'] }))
  const holder = await world().owner.connect()
  try {
    await holder.query('BEGIN')
    await holder.query('SELECT FROM lensers.profiles WHERE id = $1 FOR UPDATE', [one.lenser])
    const changes = [
      set(one, { denied_tools_add: ['mcp/*'], denied_tools_remove: ['net'] }),
      set(two, { denied_tools_add: ['git'], denied_tools_remove: ['shell'] }),
    ]
    const waiting = async () =>
      (
        await world().query(
          `SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%fn_policy_set%'`,
        )
      ).length
    for (const end = Date.now() + 60_000; (await waiting()) < 2; ) {
      if (Date.now() > end) throw new Error('they do not wait for each other')
      await new Promise((done) => setTimeout(done, 20))
    }
    await holder.query('COMMIT')
    t.deepEqual((await Promise.all(changes)).map(codeOf), ['ok', 'ok'])
  } finally {
    holder.release(true)
  }
  t.deepEqual((await deniedOf(one)).denied_tools, ['git', 'mcp/*'])
  // Each of the two is on record with what it came to.
  const changed = [...(await audited(one, 'policy_set')), ...(await audited(two, 'policy_set'))].map(
    ({ payload }) => (payload.changed as { denied_tools: string[] }).denied_tools,
  )
  t.true(changed.some((list) => list.includes('mcp/*') && list.includes('git')))
})

test('law 2: a change of the policy that comes again gives its first result, though another came between', async (t) => {
  const session = await world().newSession()
  const members = operation({ runner_paused: true })
  const first = resultOf(await world().ask(session, 'policy_set', members))
  resultOf(await set(session, { runner_paused: false }))
  t.deepEqual(resultOf(await world().ask(session, 'policy_set', members)), first)
  t.like((await show(session)).settings as object, { runner_paused: false })
})

test('policy_test: what a run would be told, of the account’s own versions; nothing is recorded', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const [own, foreign] = await Promise.all([mine, theirs].map(({ lenser }) => makeVersion(world().owner, lenser)))
  t.deepEqual(await tried(mine), { verdict: 'allow', reason: 'approval_default_allow' })
  t.is(codeOf(await world().ask(mine, 'policy_test', { version_id: foreign?.id })), 'unknown_version')
  for (const [members, verdict, reason] of [
    [{ approval_default: 'require_human' }, 'require_approval', 'approval_default_require_human'],
    [{ dark_launch_percent: 0 }, 'deny', 'dark_launch'],
    [{ max_parallel_runs: 0 }, 'deny', 'parallel_limit'],
    [{ daily_runs: 0 }, 'deny', 'budget_used_up'],
    [{ runner_paused: true }, 'pause', 'runner_paused'],
  ] as const) {
    resultOf(await set(mine, members))
    t.deepEqual(await tried(mine, { version_id: own?.id }), { verdict, reason })
  }
  t.deepEqual(await tried(theirs), { verdict: 'allow', reason: 'approval_default_allow' })
  t.is(await countRows('agents.policy_evaluations', mine), 0)
})

test('approvals: an owner sees what awaits them, named, those that end first ahead, and then what was decided', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const device = await world().newDevice(mine, { name: 'builder' })
  resultOf(await set(mine, { approval_default: 'require_human', approval_seconds: 60 }))
  resultOf(await set(theirs, { approval_default: 'require_human' }))
  await startRun(await world().newDevice(theirs))
  const decided = await startRun(device)
  const second = await startRun(device)
  resultOf(await set(mine, { approval_seconds: 30 }))
  const { runner_id } = resultOf(
    await world().ask(mine, 'runner_bind', operation({ name: 'nightly', device_id: device.kid })),
  )
  const version = await makeVersion(world().owner, mine.lenser)
  const first = await startRun(device, { runner_id, label: 'make all', version_id: version.id })
  resultOf(await decide(mine, decided.run_id, 'deny', { reason: 'not today' }))
  const { approvals, more } = await list(mine)
  t.false(more)
  t.deepEqual(
    approvals.map(({ run_id }) => run_id),
    [first, second, decided].map(({ run_id }) => run_id),
  )
  const { requested_at, expires_at, ...shown } = approvals[0] as Record<'requested_at' | 'expires_at', number>
  t.is(expires_at - requested_at, 30)
  t.is(expires_at, Math.floor(first.approval_expires_at / 1000))
  t.deepEqual(shown, {
    run_id: first.run_id,
    device_id: device.kid,
    device_name: 'builder',
    runner_id,
    runner_name: 'nightly',
    label: 'make all',
    command_hash: commandHash.slice(0, 12),
    submission_id: null,
    version_id: version.id,
    decision: null,
    decided_at: null,
    reason: null,
  })
  t.like(approvals[2], { decision: 'deny', reason: 'not today' })
  t.truthy(approvals[2]?.decided_at)
})

test('approvals: however many there are, the answer fits into an envelope and says that there is more', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session, { name: '𝔻'.repeat(30) })
  resultOf(await set(session, { approval_default: 'require_human' }))
  await startRun(device, { label: '𝔻'.repeat(60) })
  const { run_id } = await startRun(device, { label: '𝔻'.repeat(60) })
  await world().query(
    `WITH more AS (
       INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, label, started_at)
       SELECT requester_lenser_id, device_id, uuidv7(), false, command_hash, inputs, label, started_at
         FROM execution.runs, generate_series(1, 450) WHERE id = $1 RETURNING id, requester_lenser_id)
     INSERT INTO agents.approvals (run_id, lenser_id, requested_at, expires_at)
     SELECT id, requester_lenser_id, now(), now() + interval '1 hour' FROM more`,
    [run_id],
  )
  const answer = await list(session)
  t.true(answer.more)
  t.true(answer.approvals.length > 100)
  const [last] = await world().query<{ run_id: string }>(
    `SELECT a.run_id FROM agents.approvals a JOIN agents.approvals b USING (lenser_id)
      WHERE b.run_id = $1 ORDER BY a.expires_at DESC, a.run_id DESC LIMIT 1`,
    [run_id],
  )
  t.false(answer.approvals.some((each) => each.run_id === last?.run_id))
  const alone = resultOf(await world().ask(session, 'approvals', { run_id: last?.run_id })) as typeof answer
  t.deepEqual(
    alone.approvals.map((each) => each.run_id),
    [last?.run_id],
  )
  t.true(Buffer.byteLength(JSON.stringify(answer)) < 200 * 1024)
})

test('approval_decide: once, of the account’s own runs, in time', async (t) => {
  const [mine, theirs] = [await world().newSession(), await world().newSession()]
  const device = await world().newDevice(mine)
  const free = await startRun(device)
  resultOf(await set(mine, { approval_default: 'require_human' }))
  const [run, late] = [await startRun(device), await startRun(device)]
  t.is(codeOf(await decide(theirs, run.run_id, 'approve')), 'unknown_run')
  t.is(codeOf(await decide(mine, newUuidV7(), 'approve')), 'unknown_run')
  t.is(codeOf(await decide(mine, free.run_id, 'approve')), 'approval_not_pending')
  await world().query(
    `UPDATE agents.approvals SET requested_at = now() - interval '2 hours', expires_at = now() - interval '1 second'
      WHERE run_id = $1`,
    [late.run_id],
  )
  t.is(codeOf(await decide(mine, late.run_id, 'approve')), 'approval_not_pending')
  const outcomes = await Promise.all(
    (['approve', 'deny', 'approve'] as const).map((decision) => decide(mine, run.run_id, decision)),
  )
  t.deepEqual(outcomes.map(codeOf).toSorted(), ['approval_not_pending', 'approval_not_pending', 'ok'])
  const [won] = outcomes.filter(({ ok }) => ok)
  const { decision } = resultOf(won as (typeof outcomes)[0]) as { decision: 'approve' | 'deny' }
  t.deepEqual(
    await world().query(
      `SELECT verdict, reason, covered_until FROM agents.policy_evaluations WHERE run_id = $1 AND phase = 'approval'`,
      [run.run_id],
    ),
    [
      {
        verdict: decision === 'approve' ? 'allow' : 'deny',
        reason: decision === 'approve' ? 'approved' : 'approval_denied',
        covered_until: null,
      },
    ],
  )
  t.deepEqual(
    await world().query('SELECT decision, decided_by FROM agents.approvals WHERE run_id = $1', [run.run_id]),
    [{ decision, decided_by: mine.kid }],
  )
})

test('AU-2: an answer is on record with its run, and one that came too late too', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  resultOf(await set(session, { approval_default: 'require_human' }))
  const { run_id } = await startRun(device)
  const members = operation({ run_id, decision: 'approve' })
  const first = await world().ask(session, 'approval_decide', members)
  t.deepEqual(await world().ask(session, 'approval_decide', members), first)
  t.is(codeOf(await decide(session, run_id, 'deny')), 'approval_not_pending')
  t.deepEqual(
    (await audited(session, 'approval_decide')).map(({ payload }) => payload),
    [
      { ok: true, run_id, result: { run_id, decision: 'approve', linked: null } },
      { ok: false, run_id, code: 'approval_not_pending' },
    ],
  )
})

test('an approval gives the run its submission if that is free still, and says whether', async (t) => {
  const session = await world().newSession()
  const device = await world().newDevice(session)
  resultOf(await set(session, { approval_default: 'require_human' }))
  const submission_id = await makeSubmission(world().owner, { lenser: session.lenser })
  const [one, two] = [await startRun(device, { submission_id }), await startRun(device, { submission_id })]
  const links = () => world().query('SELECT run_id FROM execution.links WHERE submission_id = $1', [submission_id])
  t.deepEqual(await links(), [])
  const outcomes = await Promise.all([one, two].map(({ run_id }) => decide(session, run_id, 'approve')))
  const results = outcomes.map(resultOf)
  t.deepEqual(results.map(({ linked }) => linked).toSorted(), [false, true])
  t.deepEqual(await links(), [{ run_id: results.find(({ linked }) => linked)?.run_id }])
  const other = await makeSubmission(world().owner, { lenser: session.lenser })
  const { run_id } = await startRun(device, { submission_id: other })
  t.like(resultOf(await decide(session, run_id, 'deny')), { decision: 'deny', linked: null })
  t.deepEqual(await world().query('SELECT FROM execution.links WHERE submission_id = $1', [other]), [])
})

test('NR-1: runner_paused is the one name that is written and that functions read; the former is made from it', async (t) => {
  const columns = await world().query(
    `SELECT attname AS name, attgenerated AS generated FROM pg_attribute
      WHERE attrelid = 'agents.workspace_settings'::regclass AND attname LIKE '%\\_paused' ORDER BY attname`,
  )
  t.deepEqual(columns, [
    { name: 'agent_paused', generated: 's' },
    { name: 'runner_paused', generated: '' },
  ])
  const readers = (name: string) =>
    world().query<{ name: string }>(
      `SELECT p.oid::regproc::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = ANY ($1) AND p.prosrc ~ $2`,
      [['agents', 'devices', 'execution', 'lensers', 'lenses', 'battles', 'reputation', 'xp', 'audit'], name],
    )
  t.deepEqual(await readers('agent_paused'), [])
  t.true((await readers('runner_paused')).length > 2)
})

test('NR-3: who reads the former name reads what was set under the new one, and nobody can write it', async (t) => {
  const user = randomUUID()
  const session = await world().newSession()
  await world().query('UPDATE lensers.profiles SET user_id = $2 WHERE id = $1', [session.lenser, user])
  /** As an older client reads it: with its user's token, through row security. */
  const read = async () => {
    const client = await world().owner.connect()
    try {
      await client.query('BEGIN')
      await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: user })])
      await client.query('SET LOCAL ROLE authenticated')
      return (await client.query('SELECT agent_paused, runner_paused FROM agents.workspace_settings')).rows
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  }
  for (const paused of [true, false]) {
    resultOf(await set(session, { runner_paused: paused }))
    t.deepEqual(await read(), [{ agent_paused: paused, runner_paused: paused }])
  }
  // 428C9: a generated column.
  for (const statement of [
    'UPDATE agents.workspace_settings SET agent_paused = true',
    `INSERT INTO agents.workspace_settings (lenser_id, agent_paused) VALUES ('${randomUUID()}', true)`,
  ]) {
    t.is(((await t.throwsAsync(world().query(statement))) as Error & { code?: string }).code, '428C9')
  }
})
