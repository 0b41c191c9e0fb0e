import type { FlatnessFigures } from './flatness.ts'
import type { PathFigures } from './path.ts'
import type { PullFigures } from './pull-flatness.ts'
import type { SyncFigures } from './sync-entries.ts'
import type { LatencyFigures } from './sync-latency.ts'
import type { VerifierFigures } from './verifier.ts'

const fixed = (value: number, digits = 1): string => value.toFixed(digits)
const listed = (figures: Readonly<Record<string, number>>, width = 14): string =>
  Object.entries(figures)
    .map(([name, value]) => `    ${name.padEnd(width)} ${fixed(value).padStart(7)}`)
    .join('\n')

/** The figures of one build, for people. */
export const describeFigures = (figures: VerifierFigures): string => {
  const { build, threads, envelopes, envelope_bytes, verifier_ratio, round_ratios } = figures
  return `
verifier with libsodium ${build}, ${threads} signature thread${threads === 1 ? '' : 's'}: ${envelopes} envelopes of ${envelope_bytes} bytes
  ${fixed(figures.envelopes_per_second, 0)} envelopes/s, bare sodium-native ${fixed(figures.bare_checks_per_second, 0)} checks/s
  verifier_ratio ${fixed(verifier_ratio, 2)} (rounds ${round_ratios.map((ratio) => fixed(ratio, 2)).join(' ')})
  CPU, µs an envelope, by process
${listed({ ...figures.cpu_us_per_envelope })}
  where the verifier's goes, µs an envelope
${listed({ ...figures.where_time_goes })}
  a batch of ${fixed(figures.envelopes_per_batch, 0)}, ms (stages of several batches overlap)
${listed(figures.waits_ms_per_batch)}
`
}

const ratios = (all: readonly number[]): string => all.map((ratio) => fixed(ratio, 2)).join(' ')

/** The figures of the whole path, for people. */
export const describePath = (figures: PathFigures): string => `
whole path, ${figures.lensers} Lensers, fsync on: publish to committed attestation, evaluation and audit entry
  ${fixed(figures.path_per_second, 0)} envelopes/s; one call each from ${figures.baseline_connections} connections ${fixed(figures.baseline_per_second, 0)}/s
  path_ratio ${fixed(figures.path_ratio, 2)} (rounds ${ratios(figures.round_ratios)})
  CPU, µs an envelope, by process
${listed(figures.cpu_us_per_envelope, 16)}
  the same of the calls one by one
${listed(figures.baseline_cpu_us_per_envelope, 16)}
  where PostgreSQL’s goes, in functions, µs an envelope
${listed(figures.where_time_goes, 44)}
`

/** What a full database costs, for people. */
export const describeFlatness = (figures: FlatnessFigures): string => `
evaluation with ${figures.attestations} attestations and ${figures.recent_envelopes} envelopes of the last half hour there, fsync on
  ${fixed(figures.full_per_second, 0)} attestations/s; in an empty database ${fixed(figures.empty_per_second, 0)}/s
  evaluation_flatness ${fixed(figures.evaluation_flatness, 2)} (rounds ${ratios(figures.round_ratios)})
  filled in ${fixed(figures.fill_seconds, 0)} s
`

/** What merging costs, for people. */
export const describeSync = (figures: SyncFigures): string => `
edits of small objects (${figures.state_bytes} bytes stored), pushes of ${figures.entries_per_push}, ${figures.lensers} Lensers, fsync on: publish to signed receipt
  ${fixed(figures.sync_entries_per_s, 0)} entries/s (rounds ${figures.round_entries_per_s.map((rate) => fixed(rate, 0)).join(' ')})
  CPU, µs an entry, by process
${listed(figures.cpu_us_per_entry, 16)}
  where PostgreSQL’s goes, in functions, µs an entry
${listed(figures.where_time_goes, 44)}
`

/** What a long feed costs, for people. */
export const describePull = (figures: PullFigures): string => `
a page of ${fixed(figures.rows_per_page, 0)} changes from a feed of ${figures.changes}, fsync on
  ${fixed(figures.full_pages_per_second, 0)} pages/s; from a feed of ${figures.short_changes} ${fixed(figures.short_pages_per_second, 0)}/s
  pull_flatness ${fixed(figures.pull_flatness, 2)} (rounds ${ratios(figures.round_ratios)})
  filled in ${fixed(figures.fill_seconds, 0)} s
`

/** How soon another machine has an edit, for people. */
export const describeLatency = ({ sync_latency_ms: { p50, p99 }, edits }: LatencyFigures): string => `
from an edit on one daemon, pushed at once, to its presence on another, fsync on
  sync_latency_ms p50 ${fixed(p50, 0)}, p99 ${fixed(p99, 0)} (${edits} edits)
`
