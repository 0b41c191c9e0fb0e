import { type Authority, isReasonCode, objectClasses, objectClassNames, reasonOf } from '@lenserfight/schemas'
import { type Output, plain, tableOf, wordOf } from '../output.ts'
import { linesOfValue } from '../sync/value.ts'
import { relativeTo } from '../times.ts'
import type { Listed, ObjectView } from './answers.ts'

type Name = Pick<ObjectView, 'class' | 'object'>

/** An object as two words of a command line. */
export const wordsOf = ({ class: className, object }: Name): string => `${wordOf(className)} ${wordOf(object)}`

const deciders: Readonly<Record<Authority, string>> = {
  both: 'your machines',
  cloud: 'the gateway',
  local: 'each machine alone',
}

/** Every class that there is, who decides its objects, and how many of them are here. */
export const classRows = (objects: readonly Listed[]) =>
  objectClassNames.map((name) => ({
    class: name,
    authority: objectClasses[name].authority,
    objects: objects.filter((each) => each.class === name && each.alive).length,
  }))

const classTable = (objects: readonly Listed[]): string[] =>
  tableOf([
    ['CLASS', 'DECIDED BY', 'HERE'],
    ...classRows(objects).map(({ class: name, authority, objects: count }) => [
      name,
      deciders[authority],
      authority === 'local' ? '-' : String(count),
    ]),
  ])

const counted = (count: number, one: string, several = `${one}s`): string => `${count} ${count === 1 ? one : several}`

const stateOf = ({ alive, conflicts, pending, set_aside }: Listed, { bad, faint }: Output): string => {
  const words = [
    ...(set_aside === null ? [] : [bad(`set aside: ${plain(set_aside)}`)]),
    ...(conflicts === 0 ? [] : [bad(counted(conflicts, 'conflict'))]),
    ...(pending === 0 ? [] : [`${counted(pending, 'edit')} to be sent`]),
    ...(alive ? [] : [faint('deleted')]),
  ]
  return words.join(', ')
}

const objectTable = (objects: readonly Listed[], output: Output, now: number): string[] =>
  tableOf([
    ['CLASS', 'OBJECT', 'CHANGED', 'STATE'],
    ...objects.map((each) => [
      plain(each.class),
      plain(each.object),
      relativeTo(each.changed_at / 1000, now),
      stateOf(each, output),
    ]),
  ])

export interface ListShown {
  readonly objects: readonly Listed[]
  /** Whether only one class was asked for. */
  readonly isOneClass: boolean
  readonly more: boolean
}

/** What there is here; without a class, also which classes there are. */
export const listLines = ({ objects, isOneClass, more }: ListShown, output: Output, now = Date.now()): string[] => [
  ...(isOneClass ? [] : [...classTable(objects), '']),
  ...(objects.length === 0 ? ['No objects here.'] : objectTable(objects, output, now)),
  ...(more ? ['… and more.'] : []),
]

/** What keeps edits from being sent, and what to do. */
export const setAsideLines = (
  name: Name,
  { code, detail }: { readonly code: string; readonly detail: string | null },
  { bad, faint }: Output,
): string[] => [
  `${bad(plain(code))}: ${isReasonCode(code) ? reasonOf(code).message : 'the gateway refused it.'}${detail === null ? '' : ` (${plain(detail)})`}`,
  faint(
    `Edit it again (\`lf gateway objects set ${wordsOf(name)} …\`), or give its edits up: \`lf gateway objects discard ${wordsOf(name)}\`.`,
  ),
]

/** Whether it waits to be sent. */
export const waitLine = ({ pending, set_aside }: Pick<ObjectView, 'pending' | 'set_aside'>): string => {
  if (set_aside !== null) return 'Set aside: the gateway refused its edits.'
  return pending === 0
    ? 'Nothing of it waits to be sent.'
    : `${counted(pending, 'edit')} of it ${pending === 1 ? 'waits' : 'wait'} to be sent.`
}

/** A value under its path; one line where it is one. */
const pathLines = (path: string, value: unknown): string[] => {
  const [first = '', ...rest] = linesOfValue(value)
  if (rest.length === 0) return [`  ${plain(path)}: ${first}`]
  return [`  ${plain(path)}:`, ...[first, ...rest].map((line) => `    ${line}`)]
}

const conflictLines = ({ path, sides }: ObjectView['conflicts'][number], { bad }: Output): string[] => [
  bad(`  ${plain(path)}: in conflict`),
  ...sides.flatMap(({ actor, value }, index) => [
    `    side ${index + 1}, by ${plain(actor.replace(/~.*$/, ''))}`,
    ...linesOfValue(value).map((line) => `      ${line}`),
  ]),
]

const stateLine = ({ alive, authority }: ObjectView, { bad }: Output): string => {
  const by = authority === 'cloud' ? 'the gateway’s' : 'your machines’'
  return alive ? by : `${by}, ${bad('deleted')}`
}

const deletedLines = (view: ObjectView): string[] => {
  if (view.alive || view.authority === 'cloud') return []
  const { edited_while_deleted: edited } = view
  const what =
    edited.length === 0 ? 'It is deleted' : `It is deleted, and was edited meanwhile: ${plain(edited.join(', '))}`
  return [`${what}. \`lf gateway objects undelete ${wordsOf(view)}\` brings it back.`]
}

/** An object as it reads here, what awaits a decision marked. */
export const describeObject = (view: ObjectView, output: Output, now = Date.now()): string[] => {
  const { conflicts, paths, set_aside } = view
  const parted = new Set(conflicts.map(({ path }) => path))
  return [
    `${plain(view.class)} ${plain(view.object)} (${stateLine(view, output)}), changed ${relativeTo(view.changed_at / 1000, now)}`,
    ...Object.entries(paths)
      .filter(([path]) => !parted.has(path))
      .flatMap(([path, value]) => pathLines(path, value)),
    ...conflicts.flatMap((conflict) => conflictLines(conflict, output)),
    ...(conflicts.length === 0 ? [] : ['What is in conflict awaits you: `lf gateway sync status --conflicts`.']),
    ...deletedLines(view),
    ...(set_aside === null ? [] : setAsideLines(view, set_aside, output)),
    ...(set_aside === null && view.pending > 0 ? [waitLine(view)] : []),
  ]
}
