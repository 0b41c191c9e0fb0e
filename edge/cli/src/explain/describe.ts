import {
  deviceFactSentences,
  type Explanation,
  factSentences,
  isNotYet,
  outcomeOf,
  type Remedy,
} from '@lenserfight/schemas'
import { type Output, plain } from '../output.ts'
import { relativeTo, timeOf } from '../times.ts'

type Rule = Explanation['rules'][number]

const sentences: Readonly<Record<Rule['fact'], string>> = { ...factSentences, ...deviceFactSentences }

/** A label as wide as the longest, and a space. */
const labelled = (label = ''): string => label.padEnd(11)

const nameOf = (member: string): string => plain(member.replace(/_(?:at|id)$/, '').replaceAll('_', ' '))

/** A value that the gateway judged by. Whatever ends with `_at` or `_until` is a time, in Unix seconds. */
const shownAs = (member: string, value: unknown): string => {
  if (value === null) return 'none'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'number' && /_(?:at|until|since)$/.test(member)) return timeOf(value)
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map((each) => shownAs('', each)).join(', ')
  return plain(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

const inputsOf = (inputs: Readonly<Record<string, unknown>>): string =>
  Object.entries(inputs)
    .map(([member, value]) => `${nameOf(member)} ${shownAs(member, value)}`)
    .join(' · ')

const withoutNulls = (inputs: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(inputs).filter(([, value]) => value !== null))

const linesOfRule = (explanation: Explanation, rule: Rule, { good, bad, faint }: Output): string[] => {
  const { fact, holds, inputs } = rule
  const notYet = isNotYet(explanation, rule)
  const isFirst = fact === explanation.first_failed
  // What is missing says why a rule fails, and of one that holds nothing.
  const judgedBy = inputsOf(holds || notYet ? withoutNulls(inputs) : inputs)
  const mark = holds ? good('✓') : notYet ? faint('·') : bad('✗')
  const why = isFirst ? bad('  ← the first that failed') : ''
  return [
    `    ${mark} ${fact}${notYet ? ' (not yet)' : ''}: ${sentences[fact]}${why}`,
    ...(judgedBy === '' ? [] : [faint(`        ${judgedBy}`)]),
  ]
}

/** The rules by the level that needs them, in the ladder's order. A level is reached where those before it are, too. */
const linesOfRules = (explanation: Explanation, output: Output): string[] => {
  const { rules, level: current } = explanation
  const all: readonly Rule[] = rules
  const levels = [...new Set(all.map(({ level }) => level))]
  return levels.flatMap((level, index) => {
    const isReached = level === current || all.every((rule) => rule.holds || levels.indexOf(rule.level) > index)
    const own = all.filter((rule) => rule.level === level)
    return [
      `  ${isReached ? output.good('✓') : output.bad('·')} ${level}`,
      ...own.flatMap((rule) => linesOfRule(explanation, rule, output)),
    ]
  })
}

/** What the level was before, newest first; the first is the one of now. */
const linesOfHistory = ({ history }: Explanation, now: number): string[] => {
  const [, ...before] = history
  return before.map(({ level, reason, at }, index) => {
    const why = reason === null ? '' : ` (${plain(reason)})`
    const when = at === null ? '' : `, ${timeOf(at)}, ${relativeTo(at, now)}`
    return `${labelled(index === 0 ? 'Before' : '')}${level}${why}${when}`
  })
}

/** A level with everything that it rests on, for people. */
export const describeExplanation = (
  explanation: Explanation,
  remedy: Remedy | null,
  output: Output,
  now = Date.now(),
): string[] => {
  const { kind, id, level, evaluated_at, subject, first_failed } = explanation
  const known = inputsOf(withoutNulls(subject))
  const mark = first_failed === null ? output.good : output.bad
  const outcome = outcomeOf(explanation)
  return [
    `${labelled(`${kind[0]?.toUpperCase()}${kind.slice(1)}`)}${id}`,
    ...(known === '' ? [] : [`${labelled()}${known}`]),
    ...(outcome === null ? [] : [`${labelled('Outcome')}${outcome}`]),
    `${labelled('Level')}${mark(level)}`,
    ...(evaluated_at === null
      ? []
      : [`${labelled('Judged')}${timeOf(evaluated_at)}, ${relativeTo(evaluated_at, now)}`]),
    ...linesOfRules(explanation, output),
    ...linesOfHistory(explanation, now),
    ...(remedy === null ? [] : [`${labelled('Next')}${plain(remedy.sentence)}`]),
    ...(remedy?.command == null ? [] : [`${labelled()}${plain(remedy.command)}`]),
  ]
}
