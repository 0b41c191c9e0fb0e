import { type PgClient, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { until } from '../e2e/_machine.ts'
import { Edge } from './_edge.ts'
import { editedClasses } from './_edits.ts'
import { misnumbered, whatComesOf, whatIsKept } from './_oracle.ts'
import { askDatabase, auditedPushes, lenserOf, loggedEdits, openConflicts, storedObjects } from './_server.ts'
import { allQuiet, isChainWhole, viewOf } from './_verdict.ts'

interface Context {
  stack: Stack
  /** Of one account: what is shared by all. */
  edges: [Edge, Edge]
  lenser: string
  /** Of another: for what needs coordination. */
  peers: [Edge, Edge]
}
const test = anyTest as TestFn<Context>
const shared = 'automation_registry_entry'
/** The one of `peers` that was killed while it led. */
let killed: Edge | undefined

/** Notes under which fence each edit of a coordinated class was applied, past everything that is tested. */
const witness = `
  CREATE TABLE public.flushed (device_id uuid, fence bigint, holder uuid);
  CREATE FUNCTION public.fn_witness() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
  BEGIN
    INSERT INTO public.flushed SELECT NEW.device_id, l.fence, l.device_id
      FROM (SELECT 1) AS always LEFT JOIN devices.peer_leases l ON l.lenser_id = NEW.lenser_id;
    RETURN NULL;
  END $$;
  CREATE TRIGGER witness AFTER INSERT ON devices.sync_outbox FOR EACH ROW
    WHEN (NEW.object_class = '${shared}') EXECUTE FUNCTION public.fn_witness()`

test.before('two machines each of two accounts', async (t) => {
  t.timeout(240_000)
  const stack = await testStack()
  await stack.whenReady()
  await withClient(stack.owner, (client) => client.query(witness))
  const [edges, peers] = await Promise.all([
    Edge.enrolled(stack, 'cat', ['cat-1', 'cat-2']) as Promise<[Edge, Edge]>,
    Edge.enrolled(stack, 'dan', ['dan-1', 'dan-2']) as Promise<[Edge, Edge]>,
  ])
  Object.assign(t.context, { stack, edges, peers, lenser: await lenserOf(stack, edges[0].device) })
})
test.after.always('nothing stays', async (t) => {
  const { stack, edges = [], peers = [] } = t.context
  await Promise.all([...edges, ...peers].map((edge) => edge.leave()))
  await stack?.stop()
})

/** Has whoever would change these objects wait while something is done. */
const whileLocked = <T>(stack: Stack, where: { class: string; object: string }, act: () => Promise<T>): Promise<T> =>
  withClient(stack.owner, async (client: PgClient) => {
    await client.query('BEGIN')
    await client.query('SELECT FROM devices.sync_objects WHERE class = $1 AND object = $2 FOR UPDATE', [
      where.class,
      where.object,
    ])
    try {
      return await act()
    } finally {
      await client.query('ROLLBACK')
    }
  })

const isApplierWaiting = async (stack: Stack): Promise<boolean> => {
  const sql = `SELECT FROM pg_stat_activity WHERE usename = 'ltg_sync_applier' AND wait_event_type = 'Lock'`
  return (await askDatabase(stack, sql, [])).length > 0
}

const leaseOf = async (stack: Stack, lenser: string): Promise<{ device_id: string; fence: number } | undefined> => {
  const sql = `SELECT device_id, fence::int FROM devices.peer_leases WHERE lenser_id = $1 AND expires_at > now()`
  return (await askDatabase<{ device_id: string; fence: number }>(stack, sql, [lenser]))[0]
}

test.serial(
  'two daemons flush a class that needs coordination, never both under one fence; then the one that leads is killed',
  async (t) => {
    t.timeout(180_000)
    const { stack, peers } = t.context
    const lenser = await lenserOf(stack, peers[0].device)
    for (let n = 0; n < 3; n += 1) {
      await Promise.all(peers.map((peer) => peer.set(shared, 'jobs', { [`entry/${peer.name}`]: n })))
      await allQuiet(stack, peers)
    }
    await whileLocked(stack, { class: shared, object: 'jobs' }, async () => {
      await Promise.all(peers.map((peer) => peer.set(shared, 'jobs', { [`entry/${peer.name}`]: 'the last' })))
      await until(() => isApplierWaiting(stack), 'a flush under way')
      const lease = await leaseOf(stack, lenser)
      killed = peers.find(({ device }) => device === lease?.device_id)
      t.not(killed, undefined)
      await killed?.end('SIGKILL')
    })
  },
)

test.serial(
  'law 2: an applier killed between its commit and its receipt applies nothing twice and loses nothing',
  async (t) => {
    t.timeout(120_000)
    const { stack, edges, lenser } = t.context
    const [edge] = edges
    const named = { class: 'runner_metadata', object: 'committed' }
    await edge.set(named.class, named.object, { name: 'before' })
    await edge.flushed()
    const isLogged = async (): Promise<boolean> =>
      (await loggedEdits(stack, lenser)).some(({ paths }) => paths.name === 'LTG-CANARY meanwhile')
    await whileLocked(stack, named, async () => {
      await edge.set(named.class, named.object, { name: 'LTG-CANARY meanwhile' })
      await until(() => isApplierWaiting(stack), 'a push under way')
      // From here on no receipt leaves, and nothing is acknowledged.
      stack.nats.pause()
    })
    try {
      await until(isLogged, 'the commit')
      stack.workers('sync-applier')[0]?.send('SIGKILL')
    } finally {
      stack.nats.resume()
    }
    await edge.flushed()
    const own = (await loggedEdits(stack, lenser)).filter(({ object }) => object === named.object)
    t.deepEqual(
      own.map(({ n }) => n),
      [1, 2],
    )
    await allQuiet(stack, edges)
    t.is((await edges[1].get(named.class, named.object)).paths.name, 'LTG-CANARY meanwhile')
  },
)

test.serial('an applier that is away for a while holds up edits, and no longer', async (t) => {
  t.timeout(120_000)
  const { stack, edges } = t.context
  const [applier] = stack.workers('sync-applier')
  await applier?.stop()
  for (const edge of edges) await edge.set('non_secret_pref', 'away', { [`pref/${edge.name}`]: true })
  await until(async () => (await edges[0].sync()).in_flight > 0, 'a push that nobody answers')
  t.true((await edges[0].sync()).pending > 0)
  await applier?.start()
  await allQuiet(stack, edges)
  for (const edge of edges) {
    t.deepEqual((await edge.get('non_secret_pref', 'away')).paths, { 'pref/cat-1': true, 'pref/cat-2': true })
  }
})

test.serial(
  'an edit that the gateway refuses is set aside with its reason and holds up nothing; made smaller, it arrives',
  async (t) => {
    t.timeout(120_000)
    const { stack, edges } = t.context
    for (const edge of edges) edge.cut()
    const [first, second] = edges
    await first.set('lens_draft', 'big', { template: 'a'.repeat(48_000) })
    await second.set('lens_draft', 'big', { notes: 'b'.repeat(16_000), description: 'c'.repeat(2_000) })
    for (const edge of edges) {
      for (let n = 0; n < 5; n += 1) await edge.set('lens_draft', 'small', { notes: `${edge.name} ${n}` })
      edge.join()
    }
    await allQuiet(stack, edges)
    const all = await Promise.all(edges.map((edge) => edge.sync()))
    const refused = all.flatMap(({ set_aside }, index) => set_aside.map((each) => ({ ...each, edge: edges[index] })))
    t.like(refused, { length: 1, 0: { class: 'lens_draft', object: 'big', code: 'object_too_large' } })
    t.deepEqual((await first.get('lens_draft', 'small')).paths, (await second.get('lens_draft', 'small')).paths)
    const loser = refused[0]?.edge as Edge
    await loser.set('lens_draft', 'big', loser === first ? { template: 'short' } : { notes: 'short' })
    await allQuiet(stack, edges)
    t.deepEqual((await loser.sync()).set_aside, [])
    const [mine, theirs] = await Promise.all(edges.map((edge) => edge.get('lens_draft', 'big')))
    t.deepEqual(mine?.paths, theirs?.paths)
    t.deepEqual(Object.keys(mine?.paths ?? {}).sort(), ['description', 'notes', 'template'])
  },
)

test.serial('SB-4: what the cloud decides reaches every machine, and none of them may write it', async (t) => {
  t.timeout(120_000)
  const { edges } = t.context
  await edges[0].ask('gateway', 'policy', 'set', '--deny-tool', 'rm')
  for (const edge of edges) {
    await until(async () => {
      const shown = await edge.get('policy', 'policy').catch(() => undefined)
      return JSON.stringify(shown?.paths ?? {}).includes('"rm"')
    }, `the policy at ${edge.name}`)
    await t.throwsAsync(edge.set('policy', 'policy', { value: {} }), { code: 'cloud_authoritative' })
    await t.throwsAsync(edge.set('byok_key', 'mine', { value: {} }), { code: 'local_only_class' })
    await t.throwsAsync(edge.set('no_such_class', 'mine', { value: {} }), { code: 'unknown_class' })
  }
})

test.serial('a machine whose copy went wrong notices by the checksum and mends itself', async (t) => {
  t.timeout(120_000)
  const { stack, edges } = t.context
  const [, edge] = edges
  await allQuiet(stack, edges)
  const before = await viewOf(edge, editedClasses)
  await edge.end('SIGTERM')
  edge.tamper(`DELETE FROM objects WHERE class = ?`, 'non_secret_pref')
  await edge.serve()
  t.notDeepEqual(await viewOf(edge, editedClasses), before)
  await until(
    async () => JSON.stringify(await viewOf(edge, editedClasses)) === JSON.stringify(before),
    'that it is mended',
  )
  t.deepEqual((await edge.sync()).diverged, [])
})

test.serial(
  'rule 9: a machine restored from a backup loses nothing: what it edits then stands beside what it had forgotten',
  async (t) => {
    t.timeout(180_000)
    const { stack, edges, lenser } = t.context
    const [other, edge] = edges
    const named = ['workflow_definition', 'restored'] as const
    await edge.set(...named, { name: 'at the backup', 'step/s1/body': { run: 'at the backup' } })
    await allQuiet(stack, edges)
    await edge.end('SIGTERM')
    edge.backUp()
    await edge.serve()
    await edge.set(...named, { 'step/s1/body': { run: 'forgotten' } })
    await edge.set(...named, { 'step/s2/body': { run: 'forgotten too' } })
    await allQuiet(stack, edges)
    await edge.end('SIGTERM')
    edge.restore()
    edge.cut()
    await edge.serve()
    await edge.set(...named, { 'step/s1/body': { run: 'edited after' } })
    await edge.set(...named, { 'step/s3/body': { run: 'edited after too' } })
    edge.join()
    await until(async () => (await edge.status()).trust_level === 'unhealthy', 'that two pasts are noticed')
    await edge.ask('gateway', 'identity', 'reprove')
    await allQuiet(stack, edges)
    for (const each of edges) {
      const { paths, conflicts } = await each.get(...named)
      t.deepEqual(
        [paths['step/s2/body'], paths['step/s3/body']],
        [{ run: 'forgotten too' }, { run: 'edited after too' }],
      )
      t.deepEqual(
        conflicts.map(({ path, sides }) => [path, sides.map(({ value }) => (value as { run: string }).run).sort()]),
        [['step/s1/body', ['edited after', 'forgotten']]],
        each.name,
      )
    }
    t.deepEqual(await viewOf(other, editedClasses), await viewOf(edge, editedClasses))
    const own = (await loggedEdits(stack, lenser)).filter(({ object }) => object === named[1])
    t.is(new Set(own.map(({ actor }) => actor)).size, 2, 'under another incarnation')
    t.deepEqual(Object.keys(await openConflicts(stack, lenser)), [`${named.join(' ')} step/s1/body`])
  },
)

test.serial(
  'after all of it: both machines and the gateway say what the edits come to; all of it is audited',
  async (t) => {
    const { stack, edges, lenser } = t.context
    const logged = await loggedEdits(stack, lenser)
    t.deepEqual(misnumbered(logged), [])
    const wanted = Object.fromEntries([...whatComesOf(logged)].sort(([a], [b]) => (a < b ? -1 : 1)))
    for (const edge of edges) t.deepEqual(await viewOf(edge, editedClasses), wanted, edge.name)
    t.deepEqual(await storedObjects(stack, lenser), whatIsKept(logged), 'the gateway')
    const { applied, recorded } = await auditedPushes(stack, lenser)
    t.is(recorded, applied)
    t.true(await isChainWhole(stack, lenser))
  },
)

test.serial('a leader that was killed is replaced after its lease, under another fence', async (t) => {
  t.timeout(180_000)
  const { stack, peers } = t.context
  const lenser = await lenserOf(stack, peers[0].device)
  const other = peers.find((peer) => peer !== killed) as Edge
  await other.flushed()
  await killed?.serve()
  await allQuiet(stack, peers)
  for (const peer of peers) {
    t.deepEqual((await peer.get(shared, 'jobs')).paths, { 'entry/dan-1': 'the last', 'entry/dan-2': 'the last' })
  }
  t.deepEqual(misnumbered(await loggedEdits(stack, lenser)), [])
  interface Flushed {
    device_id: string
    fence: number
    holder: string
  }
  const flushed = await askDatabase<Flushed>(stack, 'SELECT device_id, fence::int, holder FROM public.flushed', [])
  t.true(flushed.length >= 8)
  t.deepEqual(
    flushed.filter(({ device_id, holder }) => device_id !== holder),
    [],
    'only who leads flushes',
  )
  for (const [fence, own] of Map.groupBy(flushed, (each) => each.fence)) {
    t.is(new Set(own.map(({ device_id }) => device_id)).size, 1, `fence ${fence}`)
  }
})
