import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Stack } from '@lenserfight/local/stack'
import { testStack } from '@lenserfight/testkit/stack'
import anyTest, { type TestFn } from 'ava'
import { until } from '../e2e/_machine.ts'
import { createChance } from '../fault/_random.ts'
import { Edge } from './_edge.ts'
import { editedClasses } from './_edits.ts'
import { type Made, playRound } from './_history.ts'
import { misnumbered, whatComesOf, whatIsKept } from './_oracle.ts'
import { auditedPushes, lenserOf, loggedEdits, openConflicts, storedObjects } from './_server.ts'
import { allQuiet, isChainWhole, miscounted, misinformed, viewOf } from './_verdict.ts'

const test = anyTest as TestFn<{ stack: Stack; edges: Edge[]; stranger: Edge }>
const rounds = 6
const editsEach = 100
/** Everybody comes together after these. */
const quietAfter = [2, 5]

test.before('three machines of one account, one of another', async (t) => {
  t.timeout(240_000)
  const stack = await testStack({ replicas: { 'sync-applier': 2 } })
  await stack.whenReady()
  const [edges, [stranger]] = await Promise.all([
    Edge.enrolled(stack, 'ann', ['ann-1', 'ann-2', 'ann-3']),
    Edge.enrolled(stack, 'ben', ['ben-1']),
  ])
  t.context = { stack, edges, stranger: stranger as Edge }
})
test.after.always('nothing stays', async (t) => {
  const { stack, edges = [], stranger } = t.context
  await Promise.all([...edges, ...(stranger === undefined ? [] : [stranger])].map((edge) => edge.leave()))
  await stack?.stop()
})

test('three daemons that edit at random, parted, stopped and killed, converge; every edit is counted once and audited; another account sees nothing', async (t) => {
  t.timeout(300_000)
  const { stack, edges, stranger } = t.context
  const chance = createChance()
  t.log(`LTG_TEST_SEED=${chance.seed}`)
  const lenser = await lenserOf(stack, edges[0]?.device ?? '')
  // Somebody else's object of the same name is another object.
  await stranger.set('agent_config', 'one', { name: 'a stranger’s' })

  const applier = (): void => stack.workers('sync-applier')[Math.floor(chance.next() * 2)]?.send('SIGKILL')
  const faults = chance.shuffled([
    [
      'both appliers killed',
      async () => {
        for (const worker of stack.workers('sync-applier')) worker.send('SIGKILL')
      },
    ],
    ['an applier killed', async () => applier()],
    ['the broker gone with its store', () => stack.nats.restart({ emptyStore: true })],
    [
      'the database restarted',
      async () => {
        await stack.postgres.stop()
        await stack.postgres.restart()
      },
    ],
    [
      'an applier and the verifier killed',
      async () => {
        applier()
        stack.workers('verifier')[0]?.send('SIGKILL')
      },
    ],
    ['nothing', async () => {}],
  ] as [string, () => Promise<void>][])
  const made: Made[] = []
  for (let round = 0; round < rounds; round += 1) {
    const [name, fault] = faults[round] as [string, () => Promise<void>]
    const note = (line: string): void => t.log(`round ${round}: ${line}; ${name}`)
    made.push(
      ...(await playRound({ edges, chance, round, from: 1 + round * editsEach, edits: editsEach, fault, note })),
    )
    if (quietAfter.includes(round)) await allQuiet(stack, edges)
  }
  t.is(made.length, rounds * editsEach)
  t.deepEqual(
    made.filter(({ edit, end }) => edit.act === 'set' && end === 'refused'),
    [],
    'what is allowed is kept',
  )

  const logged = await loggedEdits(stack, lenser)
  t.deepEqual(miscounted(made, logged), [], 'every edit once')
  t.deepEqual(misnumbered(logged), [], 'each author counts from 1 and leaves nothing out')
  t.deepEqual(misinformed(made, logged, quietAfter), [], 'clocks claim what was seen, and no more')
  const ends = made.filter(({ end }) => end === 'unknown').length
  t.log(`${logged.length} edits logged of ${made.length} asked for, ${ends} of them interrupted`)

  const expected = whatComesOf(logged)
  const wanted = Object.fromEntries([...expected].sort(([a], [b]) => (a < b ? -1 : 1)))
  for (const edge of edges) t.deepEqual(await viewOf(edge, editedClasses), wanted, edge.name)
  t.deepEqual(await storedObjects(stack, lenser), whatIsKept(logged), 'the gateway')
  const conflicts = [...expected].flatMap(([name, { conflicts: own }]) =>
    Object.entries(own).map(([path, sides]) => [`${name} ${path}`, sides] as const),
  )
  t.deepEqual(await openConflicts(stack, lenser), Object.fromEntries(conflicts), 'every conflict, and nothing else')
  t.log(`${expected.size} objects, ${conflicts.length} conflicts`)

  const { applied, recorded } = await auditedPushes(stack, lenser)
  t.true(applied > 0)
  t.is(recorded, applied, 'each push has its one record')
  t.true(await isChainWhole(stack, lenser))

  t.deepEqual(Object.keys(await viewOf(stranger, editedClasses)), ['agent_config one'])
  t.deepEqual((await stranger.get('agent_config', 'one')).paths, { name: 'a stranger’s' })
  for (const file of ['state.db', 'state.db-wal']) {
    t.false(readFileSync(join(stranger.state, file)).includes('LTG-CANARY'), 'nothing of theirs is on its disk')
  }
  await until(async () => (await stranger.sync()).pending === 0)
})
