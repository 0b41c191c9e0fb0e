import { join } from 'node:path'
import { migrate, type Pool } from '@lenserfight/db'
import { createDatabase, readEnvironment, withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import { openRawEdge, type RawEdge } from '@lenserfight/testkit/raw-edge'
import { testStack } from '@lenserfight/testkit/stack'
import { type Baseline, baselineConnections, openBaseline } from './baseline.ts'
import { type Comparison, compare, largest, type Timed } from './figures.ts'
import { cpuByProcess } from './processes.ts'
import { functionTimes, until } from './stack-times.ts'
import type { Sample } from './workload.ts'
import { attest, type BenchWorld, countTrusted, openWorld, startRuns } from './world.ts'

export interface PathOptions {
  /** Rounds that count; one more warms up. */
  readonly rounds: number
  /** Members of the services' configurations, in place of their defaults. */
  readonly extra?: Readonly<Record<string, Record<string, unknown>>>
  readonly say: (sentence: string) => void
}

export interface PathFigures {
  /** Envelopes a second, published to linked, over envelopes a second of the plain way. */
  readonly path_ratio: number
  readonly round_ratios: readonly number[]
  readonly path_per_second: number
  readonly baseline_per_second: number
  readonly lensers: number
  readonly baseline_connections: number
  readonly envelopes_per_round: number
  readonly baseline_envelopes_per_round: number
  readonly cpu_us_per_envelope: Readonly<Record<string, number>>
  readonly baseline_cpu_us_per_envelope: Readonly<Record<string, number>>
  /** Where PostgreSQL's time goes, in functions, µs an envelope, what they call not counted; of one more round. */
  readonly where_time_goes: Readonly<Record<string, number>>
}

const lensers = 64
const runsEach = 64
const baselineRunsEach = 32

interface Bench {
  readonly stack: Stack
  readonly edge: RawEdge
  readonly world: BenchWorld
  readonly plain: BenchWorld
  readonly baseline: Baseline
}

type Cpu = Readonly<Record<string, number>>
interface Round extends Timed {
  readonly cpu: Cpu
}

const linkedCount = async (owner: Pool): Promise<number> => {
  const { rows } = await owner.query('SELECT coalesce(sum(seq), 0)::bigint AS linked FROM audit.chain_heads')
  return Number((rows[0] as { linked: string }).linked)
}

const isAllLinked = async (owner: Pool): Promise<boolean> => {
  const { rows } = await owner.query('SELECT EXISTS (SELECT FROM audit.pending) AS waits')
  return !(rows[0] as { waits: boolean }).waits
}

/** CPU that each process spent while something was done, microseconds. */
const spending = async (stack: Stack, work: () => Promise<Timed>): Promise<Round> => {
  const pidOf = (name: 'verifier' | 'trust-evaluator' | 'audit-chain') => stack.workers(name)[0]?.pid as number
  const pids = {
    verifier: [pidOf('verifier')],
    trust_evaluator: [pidOf('trust-evaluator')],
    audit_chain: [pidOf('audit-chain')],
    nats_server: [stack.nats.pid],
    caller: [process.pid],
  }
  const look = () => cpuByProcess(pids, stack.postgres.pid)
  const before = look()
  const timed = await work()
  const after = look()
  return { ...timed, cpu: Object.fromEntries(Object.entries(after).map(([k, v]) => [k, v - (before[k] ?? 0)])) }
}

/** From the first publish to the last audit entry, which follows the commit of attestation and evaluation. */
const runPath = ({ stack, edge, world }: Bench, samples: readonly Sample[]): Promise<Round> =>
  spending(stack, async () => {
    const goal = (await linkedCount(world.owner)) + samples.length
    const start = performance.now()
    for (const { subject, bytes } of samples) edge.publish(subject, bytes)
    await edge.flush()
    await until(async () => (await linkedCount(world.owner)) >= goal)
    return { count: samples.length, seconds: (performance.now() - start) / 1000 }
  })

const runPair = async (bench: Bench): Promise<{ path: Round; plain: Round }> => {
  const runs = await startRuns(bench.world, runsEach)
  const plainRuns = await startRuns(bench.plain, baselineRunsEach)
  await until(() => isAllLinked(bench.world.owner))
  await bench.plain.owner.query('SELECT audit.fn_chain_link(100000)')
  const path = await runPath(bench, attest(bench.world, runs))
  const samples = attest(bench.plain, plainRuns)
  const plain = await spending(bench.stack, () => bench.baseline.run(samples))
  return { path, plain }
}

const sumOf = (rounds: readonly Round[]): Record<string, number> => {
  const count = rounds.reduce((sum, round) => sum + round.count, 0)
  const names = Object.keys(rounds[0]?.cpu ?? {})
  return Object.fromEntries(
    names.map((name) => [name, rounds.reduce((sum, { cpu }) => sum + (cpu[name] ?? 0), 0) / count]),
  )
}

/** A database of the same cluster in which the plain way works, so that no worker does any of its work. */
const plainWorld = async (stack: Stack): Promise<BenchWorld> => {
  const connection = await createDatabase(stack.postgres.owner)
  await withClient(connection, (client) => migrate(client, { dir: join(readEnvironment().repository, 'migrations') }))
  return openWorld(connection, stack.descriptor.gateway_id, lensers)
}

/**
 * `path_ratio`: attestations of 64 Lensers, published, verified, recorded, judged and linked into the audit chains by the
 * workers as deployed, fsync on, over the same functions called envelope by envelope on 16 connections of the same
 * cluster by a caller that checks signatures itself. Rounds alternate.
 */
export const benchPath = async ({ rounds, extra, say }: PathOptions): Promise<PathFigures> => {
  say('starting the stack (path)')
  const stack = await testStack({
    callout: false,
    fsync: true,
    replicas: { 'broker-auth': 0, registrar: 0 },
    ...(extra === undefined ? {} : { extra }),
  })
  const closers: (() => Promise<unknown>)[] = [() => stack.stop()]
  try {
    await stack.whenReady()
    const edge = await openRawEdge(stack)
    closers.unshift(edge.close)
    const world = await openWorld(stack.owner, stack.descriptor.gateway_id, lensers)
    closers.unshift(() => world.owner.end())
    const plain = await plainWorld(stack)
    closers.unshift(() => plain.owner.end())
    const baseline = await openBaseline(plain)
    closers.unshift(baseline.close)
    const bench = { stack, edge, world, plain, baseline }
    say('warming up')
    await runPair(bench)
    const paths: Round[] = []
    const plains: Round[] = []
    for (let round = 1; round <= rounds; round++) {
      say(`round ${round} of ${rounds}`)
      const pair = await runPair(bench)
      paths.push(pair.path)
      plains.push(pair.plain)
    }
    say('one more to see where time goes')
    const last = attest(world, await startRuns(world, runsEach))
    await until(() => isAllLinked(world.owner))
    const times = await functionTimes(world.owner, () => runPath(bench, last))
    for (const each of [world, plain]) {
      const { attested, trusted } = await countTrusted(each)
      if (attested !== trusted) throw new Error(`${attested - trusted} of ${attested} runs are not fully trusted`)
    }
    return figuresOf(compare(paths, plains), { paths, plains, times })
  } finally {
    for (const close of closers) await close()
  }
}

const figuresOf = (
  { ratio, round_ratios, measured_per_second, reference_per_second }: Comparison,
  { paths, plains, times }: { paths: readonly Round[]; plains: readonly Round[]; times: Record<string, number> },
): PathFigures => ({
  path_ratio: ratio,
  round_ratios,
  path_per_second: measured_per_second,
  baseline_per_second: reference_per_second,
  lensers,
  baseline_connections: baselineConnections,
  envelopes_per_round: lensers * runsEach,
  baseline_envelopes_per_round: lensers * baselineRunsEach,
  cpu_us_per_envelope: sumOf(paths),
  baseline_cpu_us_per_envelope: sumOf(plains),
  where_time_goes: largest(times, { count: lensers * runsEach, keep: 12 }),
})
