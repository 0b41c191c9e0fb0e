import { randomInt } from 'node:crypto'
import { readTestEnvironment } from '@lenserfight/testkit'

/** Chance that can be had again: the same seed, the same moments. */
export interface Chance {
  readonly seed: number
  /** From 0 up to, not including, 1. */
  readonly next: () => number
  /** The same items in another order. */
  readonly shuffled: <T>(items: readonly T[]) => T[]
}

/** Mulberry32, seeded by `LTG_TEST_SEED` or by chance. */
export const createChance = (seed = readTestEnvironment().seed ?? randomInt(2 ** 31)): Chance => {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const shuffled = <T>(items: readonly T[]): T[] =>
    items
      .map((item) => ({ item, place: next() }))
      .sort((a, b) => a.place - b.place)
      .map(({ item }) => item)
  return { seed, next, shuffled }
}
