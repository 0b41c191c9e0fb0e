import { type ExecutionFact, executionLevels, factSentences } from '@lenserfight/schemas'
import type { Output } from '../output.ts'

/** One step of the ladder, as the gateway tells it. */
interface LadderStep {
  readonly level: string
  readonly reached: boolean
  readonly failing: readonly string[]
}

const isStep = (value: unknown): value is LadderStep => {
  const { level, reached, failing } = (value ?? {}) as Partial<LadderStep>
  return typeof level === 'string' && typeof reached === 'boolean' && Array.isArray(failing)
}

const sentenceOf = (fact: string): string =>
  Object.hasOwn(factSentences, fact) ? factSentences[fact as ExecutionFact] : fact

const widest = Math.max(...executionLevels.map((level) => level.length))

/** The ladder for people: level by level, reached or what it lacks. */
export const ladderLines = (ladder: unknown, output: Output): string[] => {
  if (!Array.isArray(ladder)) return []
  return ladder.filter(isStep).map(({ level, reached, failing }) => {
    const name = level.padEnd(widest)
    if (reached) return `  ${output.good('✓')} ${name}`
    const why = failing.length === 0 ? 'needs the levels before it' : `lacks: ${failing.map(sentenceOf).join('; ')}`
    return `  ${output.bad('·')} ${name}  ${output.faint(why)}`
  })
}
