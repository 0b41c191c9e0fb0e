/** What the rounds of a comparison say. */
export interface Comparison {
  /** Of all rounds' work over all rounds' time, so that a short round counts for no more than it is. */
  readonly ratio: number
  readonly round_ratios: readonly number[]
  readonly measured_per_second: number
  readonly reference_per_second: number
}

/** Work done in some time. */
export interface Timed {
  readonly count: number
  readonly seconds: number
}

/** Work a second, of all rounds together. */
export const rateOf = (rounds: readonly Timed[]): number =>
  rounds.reduce((sum, { count }) => sum + count, 0) / rounds.reduce((sum, { seconds }) => sum + seconds, 0)

/**
 * Compares rounds that alternated, so that whatever else the machine does falls on both.
 * @throws TypeError where rounds are missing or took no time
 */
export const compare = (measured: readonly Timed[], reference: readonly Timed[]): Comparison => {
  const all = [...measured, ...reference]
  if (measured.length === 0 || measured.length !== reference.length) throw new TypeError('rounds come in pairs')
  if (all.some(({ count, seconds }) => !(count > 0 && seconds > 0))) throw new TypeError('a round did nothing')
  const [own, other] = [rateOf(measured), rateOf(reference)]
  return {
    ratio: own / other,
    round_ratios: measured.map((round, index) => rateOf([round]) / rateOf([reference[index] as Timed])),
    measured_per_second: own,
    reference_per_second: other,
  }
}

/** The largest of what was counted, biggest first, each divided by `count`; the rest in one sum named `others`. */
export const largest = (
  parts: Readonly<Record<string, number>>,
  { count, keep }: { readonly count: number; readonly keep: number },
): Record<string, number> => {
  const sorted = Object.entries(parts).sort(([, a], [, b]) => b - a)
  const others = sorted.slice(keep).reduce((sum, [, value]) => sum + value, 0)
  return Object.fromEntries([
    ...sorted.slice(0, keep).map(([name, value]) => [name, value / count] as const),
    ...(others > 0 ? [['others', others / count] as const] : []),
  ])
}
