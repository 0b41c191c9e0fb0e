import { randomUUID } from 'node:crypto'
import { nilUuid } from '@lenserfight/schemas'
import { apply, checksumOf, digestOf, emptyState, join, type ObjectState, read, reservedActor } from '@lenserfight/sync'
import test from 'ava'
import { useWorld } from '../_world.ts'
import { append, type ClassPage, type Db, fresh, pull, type Row, store, storedChecksum } from './_feed.ts'

const world = useWorld(test)

interface Opened {
  readonly taken: number
  readonly objects: readonly { lenser: string; class: string; object: string; state: ObjectState }[]
}
const open = async (db: Db, limit = 100): Promise<Opened> =>
  (await db.query('SELECT devices.fn_sync_sequence_open($1) AS opened', [limit])).rows[0].opened
const commit = async (db: Db, { objects }: Opened) => {
  const sequenced = { objects: objects.map(({ state, ...name }) => ({ ...name, digest: digestOf(state) })) }
  return (await db.query('SELECT notice FROM devices.fn_sync_sequence_commit($1)', [JSON.stringify(sequenced)])).rows
}
/** Sequences everything that is pending, as the applier does. */
const sequence = async (): Promise<void> => {
  for (let taken = 1; taken > 0; ) {
    const client = await world().as('ltg_sync_applier').connect()
    await client.query('BEGIN')
    const opened = await open(client)
    await commit(client, opened)
    await client.query('COMMIT')
    client.release()
    taken = opened.taken
  }
}
const account = async () => {
  const { id: lenser, user } = await world().addLenser()
  return { lenser, user, device: await world().addDevice(lenser, 'approved') }
}
/** What each object of a class reads, on a machine that pulls it anew. */
const pulled = async (device: string, className: string): Promise<Record<string, unknown>> => {
  await sequence()
  const states = new Map<string, ObjectState>()
  for (let [cursor, more] = [0, true]; more; ) {
    const page = (await pull(world(), { device, cursors: { [className]: cursor } })).classes[className] as ClassPage
    for (const { object, state } of page.rows) {
      states.set(object, join(states.get(object) ?? emptyState, state as ObjectState))
    }
    cursor = page.upto
    more = page.more
  }
  return Object.fromEntries(
    [...states]
      .filter(([, state]) => read(className, state).alive)
      .map(([object, state]) => [object, read(className, state).paths.value]),
  )
}

test.serial('rule 13: policy, kill switch, dark launch and budget flow down as they are', async (t) => {
  const { lenser, device } = await account()
  await world().owner.query(
    `INSERT INTO agents.workspace_settings (lenser_id, denied_tools, approval_default) VALUES ($1, '{rm}', 'require_human')`,
    [lenser],
  )
  await world().owner.query('INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, 7)', [lenser])
  t.deepEqual(await pulled(device, 'policy'), {
    policy: { approval_default: 'require_human', approval_seconds: 600, denied_tools: ['rm'], runner_paused: false },
  })
  t.deepEqual(await pulled(device, 'kill_switch'), { workspace: { global_kill_switch: false } })
  t.deepEqual(await pulled(device, 'dark_launch'), { dark_launch: { percent: 100 } })
  t.deepEqual(await pulled(device, 'budget'), { budget: { daily_runs: 7, max_parallel_runs: null } })

  const changes = () =>
    world().rows('SELECT class FROM devices.sync_changes WHERE lenser_id = $1 AND seq > 4 ORDER BY seq', [lenser])
  await world().owner.query(
    'UPDATE agents.workspace_settings SET global_kill_switch = true, dark_launch_percent = 10 WHERE lenser_id = $1',
    [lenser],
  )
  t.deepEqual(await pulled(device, 'kill_switch'), { workspace: { global_kill_switch: true } })
  t.deepEqual(await pulled(device, 'dark_launch'), { dark_launch: { percent: 10 } })
  t.deepEqual(await changes(), [{ class: 'dark_launch' }, { class: 'kill_switch' }], 'what did not change is not told')
})

test.serial('rule 13: XP flows down as one total', async (t) => {
  const { lenser, device } = await account()
  const give = (rule: string, amount: number, reverses: string | null = null) =>
    world().one<{ id: string }>(
      `INSERT INTO xp.ledger (lenser_id, rule, source_id, amount, reverses) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
      [lenser, rule, device, amount, reverses],
    )
  await give('DEVICE_REGISTERED', 5)
  const { id } = await give('DEVICE_VERIFIED', 20)
  t.deepEqual(await pulled(device, 'xp_total'), { total: { total: 25 } })
  await give('DEVICE_VERIFIED', -20, id)
  t.deepEqual(await pulled(device, 'xp_total'), { total: { total: 5 } })
})

test.serial('rule 13: of each run its newest evaluation flows down', async (t) => {
  const { lenser, device } = await account()
  const runs = await world().rows<{ id: string }>(
    `INSERT INTO execution.runs (requester_lenser_id, device_id, op_id, contender_owned, command_hash, inputs, started_at)
     SELECT $1, $2, uuidv7(), false, sha256(''), '{}', now() FROM generate_series(1, 2) RETURNING id`,
    [lenser, device],
  )
  const [one, two] = runs.map(({ id }) => id) as [string, string]
  const evaluate = (ids: readonly string[], reason: string, at: number) =>
    world().owner.query(
      `INSERT INTO execution.trust_evaluations (run_id, lenser_id, trust_level, facts, reason, evaluated_at)
       SELECT r.id, $2, execution.fn_trust_level('{}'), '{}', $3, to_timestamp($4) FROM unnest($1::uuid[]) r (id)`,
      [ids, lenser, reason, at],
    )
  const { level } = await world().one<{ level: string }>(`SELECT execution.fn_trust_level('{}') AS level`)
  const said = (reason: string, at: number) => ({ level, reason, submission: null, evaluated_at: at * 1000 })
  await evaluate([one, two], 'first', 1000)
  await evaluate([two], 'second', 900)
  t.deepEqual(await pulled(device, 'trust_evaluation'), { [one]: said('first', 1000), [two]: said('second', 900) })
  await evaluate([one], 'third', 2000)
  t.deepEqual((await pulled(device, 'trust_evaluation'))[one], said('third', 2000))
})

test.serial('rule 13: a submission’s level is its account’s, and no longer once it counts for another', async (t) => {
  const [mine, other] = [await account(), await account()]
  const battle = randomUUID()
  await world().owner.query(`INSERT INTO battles.battles (id, title) VALUES ($1, 'a')`, [battle])
  const { id: submission } = await world().one<{ id: string }>(
    'INSERT INTO battles.submissions (battle_id, submitter_lenser_id) VALUES ($1, $2) RETURNING id',
    [battle, mine.lenser],
  )
  await world().owner.query('INSERT INTO reputation.submission_levels (submission_id) VALUES ($1)', [submission])
  const count = (lenser: string, level: string) =>
    world().owner.query(
      'UPDATE reputation.submission_levels SET lenser_id = $2, trust_level = $3 WHERE submission_id = $1',
      [submission, lenser, level],
    )
  t.deepEqual(await pulled(mine.device, 'battle_result'), {})
  await count(mine.lenser, 'device_verified')
  const result = { battle, contender: null, level: 'device_verified' }
  t.deepEqual(await pulled(mine.device, 'battle_result'), { [submission]: result })
  await count(other.lenser, 'fully_trusted')
  t.deepEqual(await pulled(mine.device, 'battle_result'), {})
  t.deepEqual(await pulled(other.device, 'battle_result'), { [submission]: { ...result, level: 'fully_trusted' } })
})

test.serial(
  'rule 13: the catalog is everybody’s; the platform alone fills it, and a retired model is gone',
  async (t) => {
    const [a, b] = [await account(), await account()]
    const call = async (name: string, ...values: string[]) => {
      const client = await world().owner.connect()
      try {
        await client.query('BEGIN')
        await client.query('SET LOCAL ROLE service_role')
        const places = values.map((_, n) => `$${n + 1}`).join(', ')
        return (await client.query(`SELECT agents.${name}(${places}) AS done`, values)).rows[0].done
      } finally {
        await client.query('COMMIT')
        client.release()
      }
    }
    t.true(await call('fn_catalog_set', 'm-1', 'One', 'vendor', 'local'))
    t.false(await call('fn_catalog_set', 'm-1', 'One', 'vendor', 'local'))
    t.true(await call('fn_catalog_set', 'm-2', 'Two', 'vendor', 'byok'))
    t.deepEqual(await pulled(a.device, 'ai_catalog'), {
      'm-1': { name: 'One', vendor: 'vendor', route: 'local' },
      'm-2': { name: 'Two', vendor: 'vendor', route: 'byok' },
    })
    t.true(await call('fn_catalog_retire', 'm-1'))
    t.false(await call('fn_catalog_retire', 'm-1'))
    t.true(await call('fn_catalog_set', 'm-2', 'Second', 'vendor', 'byok'))
    const left = { 'm-2': { name: 'Second', vendor: 'vendor', route: 'byok' } }
    for (const { device } of [a, b]) t.deepEqual(await pulled(device, 'ai_catalog'), left)
    t.true(await call('fn_catalog_set', 'm-1', 'Again', 'vendor', 'local'))
    t.true('m-1' in (await pulled(b.device, 'ai_catalog')))
  },
)

test.serial(
  'rule 13: what is fed late or twice is harmless: each write of the cloud’s comes after the one before',
  async (t) => {
    const { lenser, device } = await account()
    const set = (percent: number) =>
      world().owner.query(
        `INSERT INTO agents.workspace_settings (lenser_id, dark_launch_percent) VALUES ($1, $2)
       ON CONFLICT (lenser_id) DO UPDATE SET dark_launch_percent = $2`,
        [lenser, percent],
      )
    for (const percent of [10, 20, 10]) {
      await set(percent)
      await sequence()
    }
    const { classes } = await pull(world(), { device, cursors: { dark_launch: 0 } })
    const rows = classes.dark_launch?.rows as readonly (Row & { state: ObjectState })[]
    t.is(rows.length, 3)
    const orders = [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 2, 0],
    ]
    for (const order of orders) {
      const state = order.reduce<ObjectState>((sum, n) => join(sum, rows[n]?.state as ObjectState), {
        clock: {},
        paths: {},
      })
      t.deepEqual(state, rows[2]?.state)
      t.deepEqual(state.clock, { [reservedActor()]: 3 })
      t.is(state.paths.value?.length, 1)
    }
    t.deepEqual(await storedChecksum(world().owner, lenser, 'dark_launch'), {
      ...checksumOf([{ object: 'dark_launch', digest: rows[2]?.digest as string }]),
    })
  },
)

test.serial('rule 12: what a person decided is told of as it stands, digest and all', async (t) => {
  const { lenser, device } = await account()
  const name = { lenser, class: 'agent_config', object: 'one' }
  const before = fresh('agent_config')
  await store(world().owner, name, before)
  await append(world().owner, [name])
  const after = apply(before, {
    ...{ actor: reservedActor(2), clock: { ...before.clock, [reservedActor(2)]: 1 } },
    paths: { name: 'x' },
  })
  await world().owner.query('UPDATE devices.sync_objects SET state = $2, digest = NULL WHERE lenser_id = $1', [
    lenser,
    JSON.stringify(after),
  ])
  await world().owner.query(
    `INSERT INTO devices.sync_pending (lenser_id, class, object) VALUES ($1, 'agent_config', 'one'), ($1, 'agent_config', 'none')`,
    [lenser],
  )
  await sequence()
  const { classes } = await pull(world(), { device, cursors: { agent_config: 0 } })
  t.deepEqual(
    classes.agent_config?.rows.map(({ seq, state, digest }) => ({ seq, state, digest })),
    [before, after].map((state, n) => ({ seq: n + 1, state, digest: digestOf(state) })),
  )
  t.deepEqual(await world().rows(`SELECT FROM devices.sync_objects WHERE object = 'none'`), [])
})

test.serial('a slow writer of the cloud’s holds nobody, and is told of once it committed', async (t) => {
  const { lenser, device } = await account()
  const slow = await world().owner.connect()
  try {
    await slow.query('BEGIN')
    await slow.query('INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, 3)', [lenser])
    const name = { lenser, class: 'agent_config', object: 'one' }
    await store(world().owner, name, fresh('agent_config'))
    await append(world().owner, [name])
    t.deepEqual(await pulled(device, 'budget'), {})
    await slow.query('COMMIT')
  } finally {
    await slow.query('ROLLBACK')
    slow.release()
  }
  t.deepEqual(await pulled(device, 'budget'), { budget: { daily_runs: 3, max_parallel_runs: null } })
})

test.serial('two sequencers share what is pending; one that dies leaves all that it took', async (t) => {
  const accounts = await Promise.all([...Array(6)].map(account))
  await sequence()
  for (const { lenser } of accounts) {
    await world().owner.query('INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, 1)', [lenser])
  }
  const [one, two, three] = [
    await world().owner.connect(),
    await world().owner.connect(),
    await world().owner.connect(),
  ]
  try {
    for (const client of [one, two]) await client.query('BEGIN')
    const [first, second] = [await open(one, 3), await open(two, 100)]
    t.deepEqual([first.taken, second.taken], [3, 3])
    t.is((await open(three)).taken, 0)
    const notices = await commit(two, second)
    t.is(notices.length, 3)
    await two.query('COMMIT')
    await one.query('ROLLBACK')
  } finally {
    for (const client of [one, two, three]) client.release()
  }
  await sequence()
  for (const { device } of accounts) t.deepEqual(Object.keys(await pulled(device, 'budget')), ['budget'])
})

test.serial(
  'law 5: keys that are opened and not told of stay, and no key goes that was left after its object was opened',
  async (t) => {
    const { lenser, device } = await account()
    await sequence()
    const write = (runs: number) =>
      world().owner.query(
        `INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, $2)
       ON CONFLICT (lenser_id) DO UPDATE SET daily_runs = excluded.daily_runs`,
        [lenser, runs],
      )
    const pending = async () => (await world().rows('SELECT FROM devices.sync_pending')).length
    await write(1)
    await open(world().as('ltg_sync_applier'))
    t.is(await pending(), 1)
    // Its word on a key that it has not taken counts for nothing.
    const client = await world().as('ltg_sync_applier').connect()
    try {
      await client.query('BEGIN')
      const opened = await open(client)
      t.is(opened.objects.length, 1)
      await write(2)
      await commit(client, opened)
      await client.query('COMMIT')
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
    t.is(await pending(), 1)
    t.like(await pulled(device, 'budget'), { budget: { daily_runs: 2 } })
    t.is(await pending(), 0)
  },
)

test.serial('law 5: what stands for an object that is not yet one is told to nobody', async (t) => {
  const { lenser } = await account()
  const name = { lenser, class: 'agent_config', object: 'ghost' }
  await world().owner.query(
    'INSERT INTO devices.sync_objects (lenser_id, class, object, state) VALUES ($1, $2, $3, $4)',
    [...Object.values(name), JSON.stringify(emptyState)],
  )
  await commit(world().as('ltg_sync_applier'), { taken: 1, objects: [{ ...name, state: emptyState }] })
  t.deepEqual(await world().rows(`SELECT FROM devices.sync_changes WHERE object = 'ghost'`), [])
  t.is((await world().rows(`SELECT FROM devices.sync_objects WHERE object = 'ghost' AND digest IS NULL`)).length, 1)
})

test.serial('whom to tell: the account’s devices that may pull, and of what is everybody’s nobody', async (t) => {
  const { lenser, device } = await account()
  await world().addDevice(lenser, 'revoked')
  const trusted = await world().addDevice(lenser, 'trusted')
  await sequence()
  await world().owner.query('INSERT INTO agents.quotas (lenser_id, daily_runs) VALUES ($1, 1)', [lenser])
  await world().owner.query(
    `INSERT INTO devices.sync_pending (lenser_id, class, object) VALUES ($1, 'ai_catalog', 'unknown')`,
    [nilUuid],
  )
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    const notices = await commit(client, await open(client))
    t.deepEqual(notices, [{ notice: { lenser, epoch: 1, seq: 1, to: [device, trusted].sort() } }])
  } finally {
    await client.query('COMMIT')
    client.release()
  }
})
