import { execFileSync } from 'node:child_process'
import { openRun, readEnvironment, startPostgres, temporaryRunFolder } from '@lenserfight/local'
import { compare, type Timed } from './figures.ts'
import { makeWorld, setDurable } from './flatness.ts'
import { type BenchWorld, claimAll, type Machine, signAs, textOf } from './world.ts'

export interface PullOptions {
  /** Rounds that count; one more warms up. */
  readonly rounds: number
  /** Changes in the full feed. */
  readonly changes: number
  readonly say: (sentence: string) => void
}

export interface PullFigures {
  /** Time of a page from a long feed over that of a page from a short one. */
  readonly pull_flatness: number
  readonly round_ratios: readonly number[]
  readonly full_pages_per_second: number
  readonly short_pages_per_second: number
  readonly changes: number
  readonly short_changes: number
  readonly rows_per_page: number
  readonly fill_seconds: number
}

const shortChanges = 5000
const pagesPerRound = 100
const className = 'lens_draft'
/** Places are at least a page before the end, so that every page is full. */
const pageAtMost = 1000

/** A feed of so many edits of the objects that an account may have, each with the state that it left. */
const fillFeed = async ({ owner, machines }: BenchWorld, changes: number): Promise<void> => {
  const { lenser, kid } = machines[0] as Machine
  await owner.query(
    `INSERT INTO devices.sync_changes (lenser_id, class, seq, object, op, state, digest)
     SELECT $1, $2, n, 'lens-' || (n * 7919) % 20000, 'upsert', s.state, sha256(convert_to(n::text, 'UTF8'))
       FROM generate_series(1, $4::bigint) n
      CROSS JOIN LATERAL (SELECT jsonb_build_object($3 || '~1', 1 + n / 20000) AS clock) c
      CROSS JOIN LATERAL (
        SELECT jsonb_build_object('clock', c.clock, 'paths', jsonb_build_object(
          '$life', jsonb_build_array(jsonb_build_object('actor', $3 || '~1', 'clock', c.clock, 'value', true)),
          'name', jsonb_build_array(jsonb_build_object('actor', $3 || '~1', 'clock', c.clock, 'value', 'edit ' || n)))) AS state) s`,
    [lenser, className, kid, changes],
  )
  await owner.query('INSERT INTO devices.sync_heads (lenser_id, seq) VALUES ($1, $2)', [lenser, changes])
  await owner.query(
    `INSERT INTO devices.sync_checksums (lenser_id, class, objects) VALUES ($1, $2, least($3::bigint, 20000))`,
    [lenser, className, changes],
  )
}

/** One page from somewhere in the feed, where the machine has come to; seconds and rows. */
const pullPage = async (
  world: BenchWorld,
  changes: number,
  share: number,
): Promise<{ seconds: number; rows: number }> => {
  const machine = world.machines[0] as Machine
  const place = Math.floor(share * (changes - pageAtMost))
  await world.owner.query(
    `INSERT INTO devices.sync_watermarks (device_id, class, lenser_id, epoch, prev, watermark) VALUES ($1, $2, $3, 1, $4, $4)
     ON CONFLICT (device_id, class) DO UPDATE SET prev = excluded.prev, watermark = excluded.watermark`,
    [machine.kid, className, machine.lenser, place],
  )
  const sample = signAs(world, machine, {
    ...{ kind: 'sync_pull', epoch: 1, cursors: { [className]: place } },
    report: { pending: 0, set_aside: 0, diverged: [] },
  })
  await claimAll(world, [sample])
  const values = [[textOf(sample)]]
  const start = performance.now()
  const { rows } = await world.owner.query({ name: 'pull', text: 'SELECT * FROM devices.fn_sync_pull($1)', values })
  const seconds = (performance.now() - start) / 1000
  const { ok, code, result } = (rows[0] as { outcome: { ok: boolean; code?: string; result: Answer } }).outcome
  const given = result?.classes[className]?.rows.length ?? 0
  if (!ok || given < 100) throw new Error(`a pull was given ${given} rows (${code})`)
  return { seconds, rows: given }
}
interface Answer {
  readonly classes: Readonly<Record<string, { readonly rows: readonly unknown[] }>>
}

interface Pages extends Timed {
  readonly rows: number
}

/** Both feeds in turn, page by page, at the same share of each. */
const runRound = async (
  full: BenchWorld,
  short: BenchWorld,
  changes: number,
): Promise<{ full: Pages; short: Pages }> => {
  const sums = { full: { seconds: 0, rows: 0 }, short: { seconds: 0, rows: 0 } }
  for (let page = 0; page < pagesPerRound; page++) {
    const share = Math.random()
    const turns = [
      { sum: sums.full, take: () => pullPage(full, changes, share) },
      { sum: sums.short, take: () => pullPage(short, shortChanges, share) },
    ]
    for (const { sum, take } of page % 2 === 0 ? turns : turns.toReversed()) {
      const { seconds, rows } = await take()
      sum.seconds += seconds
      sum.rows += rows
    }
  }
  return { full: { count: pagesPerRound, ...sums.full }, short: { count: pagesPerRound, ...sums.short } }
}

/**
 * `pull_flatness`: time of devices.fn_sync_pull for one page at any place of a feed of five million changes, over the same of
 * five thousand. Two databases of one cluster in turn, page by page.
 */
export const benchPull = async ({ rounds, changes, say }: PullOptions): Promise<PullFigures> => {
  const env = readEnvironment()
  const folder = temporaryRunFolder(env)
  const run = await openRun({ dir: folder, folder })
  const settings = { max_wal_size: '16GB', checkpoint_timeout: '30min' }
  const postgres = await startPostgres({ env, run, fsync: true, settings })
  try {
    const [full, short] = [await makeWorld(postgres, 1), await makeWorld(postgres, 1)]
    say(`filling a feed with ${changes} changes`)
    const start = performance.now()
    await setDurable(full, false)
    await Promise.all([fillFeed(full, changes), fillFeed(short, shortChanges)])
    for (const { owner } of [full, short]) await owner.query('VACUUM (ANALYZE)')
    await setDurable(full, true)
    await full.owner.query('CHECKPOINT')
    execFileSync('sync')
    const fill_seconds = (performance.now() - start) / 1000
    say(`filled in ${Math.round(fill_seconds)} s; warming up`)
    await runRound(full, short, changes)
    const measured: { full: Pages; short: Pages }[] = []
    for (let round = 1; round <= rounds; round++) {
      say(`round ${round} of ${rounds}`)
      measured.push(await runRound(full, short, changes))
    }
    await Promise.all([full.owner.end(), short.owner.end()])
    // Of times, not of rates.
    const comparison = compare(
      measured.map((pair) => pair.short),
      measured.map((pair) => pair.full),
    )
    return {
      pull_flatness: comparison.ratio,
      round_ratios: comparison.round_ratios,
      full_pages_per_second: comparison.reference_per_second,
      short_pages_per_second: comparison.measured_per_second,
      ...{ changes, short_changes: shortChanges, fill_seconds },
      rows_per_page: measured.reduce((sum, pair) => sum + pair.full.rows, 0) / (measured.length * pagesPerRound),
    }
  } finally {
    await postgres.stop()
    await run.close()
  }
}
