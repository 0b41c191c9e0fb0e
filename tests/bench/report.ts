import type { VerifierFigures } from './verifier.ts'

const fixed = (value: number, digits = 1): string => value.toFixed(digits)
const listed = (figures: Readonly<Record<string, number>>): string =>
  Object.entries(figures)
    .map(([name, value]) => `    ${name.padEnd(14)} ${fixed(value).padStart(7)}`)
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
