const floorMs = 200
const ceilingMs = 5_000

/**
 * How long to wait before another attempt: full jitter under a bound that doubles. Milliseconds.
 * @param failures in a row, from 1
 * @param random in [0, 1)
 */
export const backOffMs = (failures: number, random: () => number = Math.random): number => {
  const bound = Math.min(ceilingMs, floorMs * 2 ** Math.min(failures - 1, 16))
  return floorMs / 2 + random() * (bound - floorMs / 2)
}
