import type { CodedError, Run } from '@lenserfight/runner'
import { type ExecutionFact, executionFacts, executionLevels, factSentences } from '@lenserfight/schemas'
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

const factsOf = (level: string): readonly string[] =>
  Object.hasOwn(executionFacts, level) ? executionFacts[level as keyof typeof executionFacts] : []

const sentences = (facts: readonly string[]): string => facts.map(sentenceOf).join('; ')

/** The ladder for people: level by level, by which facts it is reached or which of them are missing. */
export const ladderLines = (ladder: unknown, output: Output): string[] => {
  if (!Array.isArray(ladder)) return []
  return ladder.filter(isStep).map(({ level, reached, failing }) => {
    const name = level.padEnd(widest)
    if (reached) return `  ${output.good('✓')} ${name}  ${output.faint(sentences(factsOf(level)))}`
    const why = failing.length === 0 ? 'needs the levels before it' : `not shown: ${sentences(failing)}`
    return `  ${output.bad('·')} ${name}  ${output.faint(why)}`
  })
}

/** What was permitted, as a report tells it. Times are milliseconds. */
export const permitReport = ({ permit, signal }: Run) => ({
  run_id: permit.runId,
  runner_id: permit.runnerId,
  runner_bound: permit.isRunnerBound,
  contender_id: permit.contenderId,
  version_id: permit.versionId,
  workflow_id: permit.workflowId,
  reason: permit.reason,
  denied_tools: permit.deniedTools,
  valid_ms: permit.validMs,
  clock_offset_ms: permit.clockOffsetMs,
  /** The code with which it was withdrawn; null where it held. */
  withdrawn: signal.aborted ? (signal.reason as CodedError).code : null,
})
