import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { migrate } from '@lenserfight/db'
import {
  createDatabase,
  openRun,
  type Postgres,
  readEnvironment,
  startPostgres,
  temporaryRunFolder,
  withClient,
} from '@lenserfight/local'
import { compare, type Timed } from './figures.ts'
import { fill, type History } from './fill.ts'
import { attest, type BenchWorld, claimAll, countTrusted, openWorld, perCall, startRuns, textOf } from './world.ts'

export interface FlatnessOptions {
  /** Rounds that count; one more warms up. */
  readonly rounds: number
  /** Attested runs that the full database holds. */
  readonly attestations: number
  readonly say: (sentence: string) => void
}

export interface FlatnessFigures {
  /** Attestations evaluated a second with the history there, over those of a database without. */
  readonly evaluation_flatness: number
  readonly round_ratios: readonly number[]
  readonly full_per_second: number
  readonly empty_per_second: number
  readonly attestations: number
  readonly recent_envelopes: number
  readonly evaluated_per_round: number
  readonly fill_seconds: number
}

const lensers = 64
const runsEach = 32
const gatewayId = '00000000-0000-4000-8000-0000000be7c4'
/** 167 envelopes a second, all of the last half hour. */
const recent = 300_000

/** A new database of a cluster, with so many accounts. */
export const makeWorld = async ({ owner }: Postgres, accounts = lensers): Promise<BenchWorld> => {
  const connection = await createDatabase(owner)
  await withClient(connection, (client) => migrate(client, { dir: join(readEnvironment().repository, 'migrations') }))
  return openWorld(connection, gatewayId, accounts)
}

const evaluate = async ({ owner }: BenchWorld, texts: readonly string[]): Promise<number> => {
  const start = performance.now()
  const { rows } = await owner.query({
    name: 'attest',
    text: 'SELECT * FROM execution.fn_record_execution_attestation($1)',
    values: [texts],
  })
  const seconds = (performance.now() - start) / 1000
  const failed = rows.find(({ outcome }) => !outcome.ok)
  if (failed !== undefined) throw new Error(`an attestation was refused: ${failed.outcome.code}`)
  return seconds
}

/** Texts of attestations that were claimed and await their evaluation. */
const prepare = async (world: BenchWorld): Promise<string[]> => {
  const samples = attest(world, await startRuns(world, runsEach))
  await claimAll(world, samples)
  return samples.map(textOf)
}

/** Both databases in turn, call by call, so that both have the same share of whatever else the machine does. */
const runRound = async (full: BenchWorld, empty: BenchWorld): Promise<{ full: Timed; empty: Timed }> => {
  const [ofFull, ofEmpty] = [await prepare(full), await prepare(empty)]
  let [fullSeconds, emptySeconds] = [0, 0]
  for (let from = 0; from < ofFull.length; from += perCall) {
    const takeFull = async () => {
      fullSeconds += await evaluate(full, ofFull.slice(from, from + perCall))
    }
    const takeEmpty = async () => {
      emptySeconds += await evaluate(empty, ofEmpty.slice(from, from + perCall))
    }
    const turns = (from / perCall) % 2 === 0 ? [takeFull, takeEmpty] : [takeEmpty, takeFull]
    for (const turn of turns) await turn()
  }
  const count = ofFull.length
  return { full: { count, seconds: fullSeconds }, empty: { count, seconds: emptySeconds } }
}

/** Turns durability off for filling, and on again; of the whole cluster. */
export const setDurable = async ({ owner }: BenchWorld, isOn: boolean): Promise<void> => {
  for (const name of ['fsync', 'full_page_writes', 'synchronous_commit']) {
    await owner.query(`ALTER SYSTEM SET ${name} = ${isOn ? 'on' : 'off'}`)
  }
  await owner.query('SELECT pg_reload_conf()')
}

const fillWorld = async (world: BenchWorld, history: History): Promise<number> => {
  const start = performance.now()
  // One attested run of each device, by the functions that make any: what is copied is as real as what is measured.
  const samples = attest(world, await startRuns(world, 1))
  await claimAll(world, samples)
  await evaluate(world, samples.map(textOf))
  await setDurable(world, false)
  await fill(world.owner, history)
  await world.owner.query('VACUUM (ANALYZE)')
  await setDurable(world, true)
  await world.owner.query('CHECKPOINT')
  // What the filling left to the operating system to write would be written during the rounds.
  execFileSync('sync')
  return (performance.now() - start) / 1000
}

/**
 * `evaluation_flatness`: attestations evaluated a second by execution.fn_record_execution_attestation, 512 a call as the
 * trust-evaluator calls it, fsync on, in a database with a million attestations and all that comes with them, over one
 * with none. Two databases of one cluster in turn, call by call.
 */
export const benchFlatness = async ({ rounds, attestations, say }: FlatnessOptions): Promise<FlatnessFigures> => {
  const env = readEnvironment()
  const folder = temporaryRunFolder(env)
  const run = await openRun({ dir: folder, folder })
  const settings = { max_wal_size: '16GB', checkpoint_timeout: '30min' }
  const postgres = await startPostgres({ env, run, fsync: true, settings })
  try {
    const [full, empty] = [await makeWorld(postgres), await makeWorld(postgres)]
    say(`filling a database with ${attestations} attestations`)
    const seconds = await fillWorld(full, { runs: attestations, recent })
    say(`filled in ${Math.round(seconds)} s; warming up`)
    await runRound(full, empty)
    const measured: { full: Timed; empty: Timed }[] = []
    for (let round = 1; round <= rounds; round++) {
      say(`round ${round} of ${rounds}`)
      measured.push(await runRound(full, empty))
    }
    const { attested, trusted } = await countTrusted(empty)
    if (attested !== trusted) throw new Error(`${attested - trusted} of ${attested} runs are not fully trusted`)
    await Promise.all([full.owner.end(), empty.owner.end()])
    const comparison = compare(
      measured.map((pair) => pair.full),
      measured.map((pair) => pair.empty),
    )
    return {
      evaluation_flatness: comparison.ratio,
      round_ratios: comparison.round_ratios,
      full_per_second: comparison.measured_per_second,
      empty_per_second: comparison.reference_per_second,
      ...{ attestations, recent_envelopes: recent, evaluated_per_round: lensers * runsEach, fill_seconds: seconds },
    }
  } finally {
    await postgres.stop()
    await run.close()
  }
}
