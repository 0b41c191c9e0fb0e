import { stripVTControlCharacters } from 'node:util'

/** How many tests held and how many did not. */
export interface TestCounts {
  passed: number
  failed: number
}

/**
 * Reads the counts from what ava's reporter printed. It states the passed ones only when nothing failed, so then their ticks are
 * counted. Everything that made the run fail counts as failed at least once: hooks, exceptions, rejections, time-outs.
 */
export function countTests(output: string, exitCode: number): TestCounts {
  const lines = stripVTControlCharacters(output).split('\n')
  const stated = (pattern: RegExp) => lines.reduce((sum, line) => sum + Number(pattern.exec(line)?.[1] ?? 0), 0)
  const passed =
    stated(/^\s*(\d+) tests? passed$/) || lines.filter((line) => /^\s*✔ (?!\[expected fail\])/.test(line)).length
  const failed = stated(
    /^\s*(\d+) (?:tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?|tests? remaining .*)$/,
  )
  return { passed, failed: exitCode === 0 ? failed : Math.max(failed, 1) }
}
