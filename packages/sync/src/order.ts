import { canonicalize } from '@lenserfight/envelope'
import { partsOf, sumOf } from './clock.ts'
import type { Write } from './types.ts'

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/**
 * Which of two writes is read where one is (rule 3): the higher sum of the clock, then the smaller device id, then the later
 * incarnation. A causally later clock has the higher sum, so this is one total order of everything that was written.
 * @returns negative where `a` is read
 */
export const compareWrites = (a: Write, b: Write): number => {
  const [left, right] = [partsOf(a.actor), partsOf(b.actor)]
  return (
    sumOf(b.clock) - sumOf(a.clock) ||
    byText(left.deviceId, right.deviceId) ||
    right.incarnation - left.incarnation ||
    byText(canonicalize(a.clock), canonicalize(b.clock)) ||
    byText(canonicalize(a.value), canonicalize(b.value))
  )
}
