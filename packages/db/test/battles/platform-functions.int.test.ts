import { randomUUID } from 'node:crypto'
import { limits } from '@lenserfight/schemas'
import test from 'ava'
import { type Lenser, refuses, sha256, useWorld } from '../_world.ts'
import { serviceRoles } from '../catalog/_expected.ts'

const world = useWorld(test)
const [lensHash, workflowHash] = [sha256('lens'), sha256('workflow')]

/** Calls a function as a person or as the platform, and keeps what it did. */
const callAs = async (caller: Lenser | 'service_role', text: string, values: unknown[] = []): Promise<string> => {
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    if (typeof caller === 'object') {
      await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: caller.user })])
    }
    await client.query(`SET LOCAL ROLE ${typeof caller === 'object' ? 'authenticated' : caller}`)
    const { rows } = await client.query(`SELECT ${text} AS said`, values)
    await client.query('COMMIT')
    return rows[0].said
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}
const publish = (who: Lenser, lens: unknown = 'sorting', workflow: unknown = 'sort', more: unknown[] = []) =>
  callAs(who, 'lenses.fn_version_publish($1, $2, $3, $4)', [
    lens,
    workflow,
    ...(more.length > 0 ? more : [lensHash, workflow === null ? null : workflowHash]),
  ])
const makeAgent = (who: Lenser, name: unknown = 'agent') => callAs(who, 'agents.fn_ai_lenser_create($1)', [name])
const open = (title: unknown = 'who sorts best') => callAs('service_role', 'battles.fn_battle_open($1)', [title])
const close = (battle: string) => callAs('service_role', 'battles.fn_battle_close($1)', [battle])
const join = (who: Lenser, battle: string, kind: unknown = 'human', agent: unknown = null, runner: unknown = null) =>
  callAs(who, 'battles.fn_contender_join($1, $2, $3, $4)', [battle, kind, agent, runner])
const submit = (who: Lenser, contender: string) => callAs(who, 'battles.fn_submit($1)', [contender])
const makeRunner = async ({ id }: Lenser): Promise<string> => {
  const text = 'INSERT INTO execution.runners (lenser_id, name) VALUES ($1, $2) RETURNING id'
  return (await world().one<{ id: string }>(text, [id, randomUUID()])).id
}

test('a version is published under its lens and workflow, both made by name, and numbered on', async (t) => {
  const [ann, bob] = [await world().addLenser(), await world().addLenser()]
  const first = await publish(ann)
  const second = await publish(ann, 'sorting', null)
  const others = await publish(bob)
  const rows = await world().rows(
    `SELECT v.id, v.lenser_id, l.name AS lens, w.name AS workflow, v.number, v.lens_hash, v.workflow_hash
       FROM lenses.versions v JOIN lenses.lenses l ON l.id = v.lens_id LEFT JOIN lenses.workflows w ON w.id = v.workflow_id
      WHERE v.id = ANY ($1) ORDER BY v.id`,
    [[first, second, others]],
  )
  const row = { lenser_id: ann.id, lens: 'sorting', workflow: 'sort', number: 1, lens_hash: lensHash }
  t.deepEqual(rows, [
    { id: first, ...row, workflow_hash: workflowHash },
    { id: second, ...row, workflow: null, number: 2, workflow_hash: null },
    { id: others, ...row, lenser_id: bob.id, workflow_hash: workflowHash },
  ])
  t.is((await world().rows('SELECT FROM lenses.lenses WHERE lenser_id = $1', [ann.id])).length, 1)
})

test('a version without a name, with a hash of another length or one hash too few is none, and leaves nothing', async (t) => {
  const ann = await world().addLenser()
  for (const [values, state] of [
    [[null, null, lensHash, null], '23502'],
    [['', null, lensHash, null], '23514'],
    [['x'.repeat(65), null, lensHash, null], '23514'],
    [['a', 'b', lensHash, null], '23514'],
    [['a', null, lensHash, workflowHash], '23514'],
    [['a', null, null, null], '23502'],
    [['a', null, lensHash.subarray(1), null], '23514'],
    [['a', 'b', lensHash, Buffer.alloc(33)], '23514'],
  ] as const) {
    await refuses(t, () => publish(ann, values[0], values[1], values.slice(2)), state, JSON.stringify(values))
  }
  for (const table of ['lenses', 'workflows', 'versions']) {
    t.deepEqual(await world().rows(`SELECT FROM lenses.${table} WHERE lenser_id = $1`, [ann.id]), [], table)
  }
})

test('two that publish at once have two numbers', async (t) => {
  const ann = await world().addLenser()
  await Promise.all(Array.from({ length: 6 }, () => publish(ann)))
  const rows = await world().rows<{ number: number }>(
    'SELECT number FROM lenses.versions WHERE lenser_id = $1 ORDER BY number',
    [ann.id],
  )
  t.deepEqual(
    rows.map(({ number }) => number),
    [1, 2, 3, 4, 5, 6],
  )
})

test('a contender is the caller, an agent or a runner of the caller’s, and joins once', async (t) => {
  const [ann, bob] = [await world().addLenser(), await world().addLenser()]
  const battle = await open()
  const [agent, runner] = [await makeAgent(ann), await makeRunner(ann)]
  const joined = [
    await join(ann, battle),
    await join(ann, battle, 'ai_agent', agent),
    await join(ann, battle, 'ai_runner', null, runner),
  ]
  t.is(new Set(joined).size, 3)
  t.deepEqual(
    [
      await join(ann, battle),
      await join(ann, battle, 'ai_agent', agent),
      await join(ann, battle, 'ai_runner', null, runner),
    ],
    joined,
  )
  t.not(await join(bob, battle), joined[0])
  t.not(await join(ann, await open()), joined[0])
  const rows = await world().rows(
    'SELECT kind, owner_lenser_id, agent_id, runner_id FROM battles.contenders WHERE id = ANY ($1) ORDER BY id',
    [joined],
  )
  t.deepEqual(rows, [
    { kind: 'human', owner_lenser_id: ann.id, agent_id: null, runner_id: null },
    { kind: 'ai_agent', owner_lenser_id: ann.id, agent_id: agent, runner_id: null },
    { kind: 'ai_runner', owner_lenser_id: ann.id, agent_id: null, runner_id: runner },
  ])
  for (const [who, ...as] of [
    [bob, 'ai_agent', agent, null],
    [bob, 'ai_runner', null, runner],
    [ann, 'ai_agent', null, null],
    [ann, 'ai_agent', agent, runner],
    [ann, 'ai_agent', randomUUID(), null],
    [ann, 'ai_runner', null, null],
    [ann, 'ai_runner', agent, runner],
    [ann, 'human', agent, null],
    [ann, 'human', null, runner],
    [ann, 'machine', null, null],
    [ann, null, null, null],
  ] as const) {
    await refuses(t, () => join(who, battle, ...as), '22023', JSON.stringify(as))
  }
  await refuses(t, () => join(ann, randomUUID()), 'P0002')
})

test('only its owner submits for a contender, and only while the battle is open', async (t) => {
  const [ann, bob] = [await world().addLenser(), await world().addLenser()]
  const battle = await open()
  const contender = await join(ann, battle)
  const submission = await submit(ann, contender)
  t.deepEqual(
    await world().one('SELECT battle_id, contender_id, submitter_lenser_id FROM battles.submissions WHERE id = $1', [
      submission,
    ]),
    { battle_id: battle, contender_id: contender, submitter_lenser_id: ann.id },
  )
  t.not(await submit(ann, contender), submission)
  await refuses(t, () => submit(bob, contender), '22023')
  await refuses(t, () => submit(ann, randomUUID()), '22023')
  t.true(await close(battle))
  t.false(await close(battle), 'twice is once')
  await refuses(t, () => submit(ann, contender), '55000')
  await refuses(t, () => join(ann, battle), '55000')
  await refuses(t, () => join(bob, battle), '55000')
  await refuses(t, () => close(randomUUID()), 'P0002')
  await refuses(t, () => open(''), '23514')
})

test('a battle closes once the submission under way is in, and takes none after', async (t) => {
  const ann = await world().addLenser()
  const battle = await open()
  const contender = await join(ann, battle)
  const client = await world().owner.connect()
  await client.query('BEGIN')
  await client.query(`SELECT set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: ann.user })])
  await client.query('SELECT battles.fn_submit($1)', [contender])
  let isClosed = false
  const closing = close(battle).then(() => {
    isClosed = true
  })
  const waits = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%fn_battle_close%' AND datname = current_database()`
  for (const end = Date.now() + 60_000; (await world().rows(waits)).length === 0 && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.false(isClosed)
  await client.query('COMMIT')
  client.release()
  await closing
  await refuses(t, () => submit(ann, contender), '55000')
  t.is((await world().rows('SELECT FROM battles.submissions WHERE contender_id = $1', [contender])).length, 1)
})

test('what an account has of each is bounded, and another’s does not count', async (t) => {
  const [ann, bob] = [await world().addLenser(), await world().addLenser()]
  const battle = await open()
  await publish(ann)
  const contender = await join(ann, battle)
  const fill = (text: string, values: unknown[]) => world().rows(text, values)
  const version =
    'SELECT lenser_id, lens_id, g, lens_hash FROM lenses.versions, generate_series(2, $2) g WHERE lenser_id = $1'
  await fill(`INSERT INTO lenses.versions (lenser_id, lens_id, number, lens_hash) ${version}`, [
    ann.id,
    limits.versionsPerLens,
  ])
  for (const table of ['lenses', 'workflows']) {
    await fill(`INSERT INTO lenses.${table} (lenser_id, name) SELECT $1, 'n' || g FROM generate_series(2, $2) g`, [
      ann.id,
      limits.lensesPerLenser,
    ])
  }
  await fill(`INSERT INTO agents.ai_lensers (owner_lenser_id, name) SELECT $1, 'n' FROM generate_series(2, $2)`, [
    ann.id,
    limits.agentsPerLenser,
  ])
  await fill(
    `INSERT INTO battles.contenders (battle_id, kind, owner_lenser_id) SELECT $1, 'ai_agent', $2 FROM generate_series(3, $3::int)`,
    [battle, ann.id, limits.contendersPerBattle],
  )
  await fill(
    `INSERT INTO battles.submissions (battle_id, contender_id, submitter_lenser_id) SELECT $1, $2, $3 FROM generate_series(2, $4::int)`,
    [battle, contender, ann.id, limits.submissionsPerContender],
  )
  // One of each is left where something was not made yet.
  const agent = await makeAgent(ann)
  const mine = await join(ann, battle, 'ai_agent', agent)
  await submit(ann, contender)
  t.is(await join(ann, battle, 'ai_agent', agent), mine, 'who is in is in')
  await refuses(t, () => publish(ann), '54000', 'versions')
  await refuses(t, () => publish(ann, 'another', null), '54000', 'lenses')
  await refuses(t, () => publish(ann, 'n2', 'another'), '54000', 'workflows')
  await t.notThrowsAsync(() => publish(ann, 'n2', 'n2'), 'what there is may be used')
  await refuses(t, () => makeAgent(ann), '54000', 'agents')
  await refuses(t, async () => join(ann, battle, 'ai_runner', null, await makeRunner(ann)), '54000', 'contenders')
  await refuses(t, () => submit(ann, contender), '54000', 'submissions')
  await submit(ann, mine)
  await publish(bob)
  await makeAgent(bob)
  await submit(bob, await join(bob, battle))
})

test('nobody without an account has anything made, whatever they name', async (t) => {
  const ann = await world().addLenser()
  const battle = await open()
  const contender = await join(ann, battle)
  for (const user of [randomUUID(), ann.id]) {
    const nobody = { id: ann.id, user }
    for (const attempt of [
      () => publish(nobody),
      () => makeAgent(nobody),
      () => join(nobody, battle),
      () => submit(nobody, contender),
    ]) {
      await refuses(t, attempt, '42501', String(attempt))
    }
  }
})

test('each function is its role’s and no other’s', async (t) => {
  const calls: Record<string, string> = {
    'lenses.fn_version_publish': `('a', NULL, sha256('x'), NULL)`,
    'agents.fn_ai_lenser_create': `('a')`,
    'battles.fn_contender_join': `(uuidv7(), 'human', NULL, NULL)`,
    'battles.fn_submit': '(uuidv7())',
    'battles.fn_battle_open': `('a')`,
    'battles.fn_battle_close': '(uuidv7())',
  }
  for (const role of [...serviceRoles, 'anon', 'authenticated', 'service_role']) {
    for (const [name, values] of Object.entries(calls)) {
      const own = name.startsWith('battles.fn_battle_') ? 'service_role' : 'authenticated'
      if (role === own) continue
      const client = await world().owner.connect()
      try {
        await client.query('BEGIN')
        await client.query(`SET LOCAL ROLE ${role}`)
        await refuses(t, () => client.query(`SELECT ${name}${values}`), '42501', `${role} ${name}`)
      } finally {
        await client.query('ROLLBACK')
        client.release()
      }
    }
  }
})

// Serial: TRUNCATE asks for locks that its neighbours hold.
test.serial(
  'a submission is nobody else’s once a run backs it, and neither it nor a contender is ever removed',
  async (t) => {
    const [ann, bob] = [await world().addLenser(), await world().addLenser()]
    const battle = await open()
    const contender = await join(ann, battle)
    const submission = await submit(ann, contender)
    const device = await world().addDevice(ann.id, 'approved')
    const change = (text: string, value: unknown) => () =>
      world().rows(`UPDATE battles.submissions SET ${text} WHERE id = $1`, [submission, value])
    await change('submitter_lenser_id = $2', bob.id)()
    await change('submitter_lenser_id = $2', ann.id)()
    const { id: run } = await world().one<{ id: string }>(
      `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
     VALUES ($1, $2, uuidv7(), false, sha256('x'), '[]', now()) RETURNING id`,
      [ann.id, device],
    )
    await world().rows('INSERT INTO execution.links (run_id, submission_id) VALUES ($1, $2)', [run, submission])
    await refuses(t, change('submitter_lenser_id = $2', bob.id), 'LT003')
    await refuses(t, change('contender_id = $2', null), 'LT003')
    await refuses(t, change('id = $2', randomUUID()), 'LT003')
    await t.notThrowsAsync(change('submitter_lenser_id = $2', ann.id), 'to what it is')
    for (const statement of [
      'DELETE FROM battles.submissions',
      'TRUNCATE battles.submissions CASCADE',
      `UPDATE battles.contenders SET kind = 'human'`,
      'DELETE FROM battles.contenders',
    ]) {
      await refuses(t, () => world().rows(statement), 'LT003', statement)
    }
  },
)
