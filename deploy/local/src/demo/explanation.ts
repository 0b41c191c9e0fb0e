import { type ExecutionFact, executionLevels, factSentences } from '@lenserfight/schemas'

/** What `lf gateway explain --json` tells, as far as it is shown here. */
export interface Explanation {
  readonly level: string
  readonly rules: readonly {
    readonly level: string
    readonly fact: ExecutionFact
    readonly holds: boolean
    readonly inputs: Readonly<Record<string, unknown>>
  }[]
}

const inputLine = (inputs: Readonly<Record<string, unknown>>): string =>
  Object.entries(inputs)
    .filter(([, value]) => value !== null && typeof value !== 'object')
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')

/** The ladder level by level: each rule, and the rows that it was judged by. */
export const explanationLines = ({ rules }: Explanation): string[] =>
  executionLevels.flatMap((level) => {
    const own = rules.filter((rule) => rule.level === level)
    if (own.length === 0) return []
    const lines = own.flatMap(({ fact, holds, inputs }) => [
      `    ${holds ? '✓' : '✗'} ${factSentences[fact]}`,
      ...(inputLine(inputs) === '' ? [] : [`        ${inputLine(inputs)}`]),
    ])
    return [`${own.every(({ holds }) => holds) ? '●' : '○'} ${level}`, ...lines]
  })
