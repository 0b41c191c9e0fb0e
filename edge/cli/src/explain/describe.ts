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

/** Members that there are not, beyond which they are named together. */
const mostNone = 2

const inputsOf = (inputs: Readonly<Record<string, unknown>>): string => {
  const members = Object.entries(inputs)
  const none = members.filter(([, value]) => value === null)
  const together = none.length > mostNone ? none : []
  const apart = members.filter((each) => !together.includes(each))
  return [
    ...apart.map(([member, value]) => `${nameOf(member)} ${shownAs(member, value)}`),
    ...(together.length === 0 ? [] : [`none: ${together.map(([member]) => nameOf(member)).join(', ')}`]),
  ].join(' · ')
}

/** The policy's word on a run is its word at the start: beside a rule that fails later, it says so. */
const startWords: Readonly<Record<string, string>> = { verdict: 'verdict_at_start', reason: 'reason_at_start' }
const named = ({ fact, inputs }: Rule): Readonly<Record<string, unknown>> =>
  fact === 'policy_passed'
    ? Object.fromEntries(Object.entries(inputs).map(([member, value]) => [startWords[member] ?? member, value]))
    : inputs

const withoutNulls = (inputs: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(inputs).filter(([, value]) => value !== null))

const linesOfRule = (explanation: Explanation, rule: Rule, { good, bad, faint }: Output): string[] => {
  const { fact, holds } = rule
  const inputs = named(rule)
  const notYet = isNotYet(explanation, rule)
  const isFirst = fact === explanation.first_failed
  const isToldAbove = fact === 'policy_passed' && outcomeOf(explanation) !== null
  // What is missing says why a rule fails; of one that holds, or whose outcome is told, nothing.
  const judgedBy = inputsOf(holds || notYet || isToldAbove ? withoutNulls(inputs) : inputs)
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

/** What the level was before, newest first; the first is the one of now. A run that was judged anew and kept its level had no other. */
const linesOfHistory = ({ kind, history }: Explanation, now: number): string[] => {
  const before = history.filter(({ level, reason }, index) => {
    const since = history[index - 1]
    return since !== undefined && (level !== since.level || (kind === 'device' && reason !== since.reason))
  })
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
    ...(outcome === null ? [] : [`${labelled('Outcome')}${plain(outcome)}`]),
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
