import {
  type Authority,
  isReasonCode,
  lifePath,
  objectClasses,
  objectClassNames,
  objectClassOf,
  pathFormsOf,
  reasonOf,
} from '@lenserfight/schemas'
import { type Output, plain, tableOf, wordOf } from '../output.ts'
import { linesOfValue } from '../sync/value.ts'
import { relativeTo } from '../times.ts'
import type { Listed, ObjectView } from './answers.ts'
import { noNames, type Writers, writerOf } from './writers.ts'

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

const stateOf = ({ alive, conflicts, beside, pending, set_aside }: Listed, { bad, faint }: Output): string => {
  const words = [
    ...(set_aside === null ? [] : [bad(`set aside: ${plain(set_aside)}`)]),
    ...(conflicts === 0 ? [] : [bad(counted(conflicts, 'conflict'))]),
    ...(beside === 0 ? [] : [`${counted(beside, 'write')} not read`]),
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
  /** The one class that was asked for. */
  readonly className?: string | undefined
  readonly more: boolean
}

/** Who decides a class's objects, and which paths they have. */
const classLines = (className: string): string[] => {
  const found = objectClassOf(className)
  if (found === undefined) return []
  const forms = pathFormsOf(className)
  const paths = forms.length === 0 ? '' : `; paths: ${forms.join(', ')}`
  return [`${className}: decided by ${deciders[found.authority]}${paths}`]
}

/** What there is here; without a class, also which classes there are. */
export const listLines = ({ objects, className, more }: ListShown, output: Output, now = Date.now()): string[] => [
  ...(className === undefined ? [...classTable(objects), ''] : classLines(className)),
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

type Written = ObjectView['beside'][number]['writes'][number]

/** `$life` is written with each edit: whether the object exists. */
const pathWords = (path: string): string => (path === lifePath ? 'whether it exists' : plain(path))

const linesOfWritten = (path: string, value: unknown): string[] => {
  if (path !== lifePath) return linesOfValue(value)
  return [value === null ? 'no: deleted' : 'yes: edited, not deleted']
}

const conflictLines = (view: ObjectView, writers: Writers, { bad }: Output): string[] =>
  view.conflicts.flatMap(({ path, sides }) => [
    bad(`  ${pathWords(path)}: in conflict`),
    ...sides.flatMap(({ actor, value }, index) => [
      `    side ${index + 1}, by ${writerOf(actor, writers)}`,
      ...linesOfWritten(path, value).map((line) => `      ${line}`),
    ]),
    ...(path === lifePath && view.edited_while_deleted.length > 0
      ? [`    edited meanwhile: ${plain(view.edited_while_deleted.join(', '))}`]
      : []),
  ])

/** How the person says which of both is to stand. */
const decidedBy = (name: Name, path: string): string =>
  path === lifePath
    ? `\`lf gateway objects delete ${wordsOf(name)}\` or \`… undelete …\` decides`
    : `\`lf gateway objects set ${wordsOf(name)} ${wordOf(path)}=…\` decides`

const writtenLines = (path: string, { actor, value }: Written, writers: Writers): string[] => {
  const by = `by ${writerOf(actor, writers)}`
  if (path === lifePath) return [`    also ${value === null ? 'deleted' : 'edited'} ${by}, not read`]
  const [first = '', ...rest] = linesOfValue(value)
  if (rest.length === 0) return [`    also written, not read: ${first} ${by}`]
  return [`    also written, not read, ${by}:`, ...[first, ...rest].map((line) => `      ${line}`)]
}

/** What was written at the same time as what is read, whose it is, and how it is decided. */
const besideLines = (view: ObjectView, path: string, writers: Writers, { bad, faint }: Output): string[] => {
  const found = view.beside.find((each) => each.path === path)
  if (found === undefined) return []
  return [
    ...found.writes.flatMap((write) => writtenLines(path, write, writers)).map(bad),
    faint(`    ${decidedBy(view, path)}`),
  ]
}

/** Every path with what it reads, and what stands beside it; those too that read nothing. */
const readLines = (view: ObjectView, writers: Writers, output: Output): string[] => {
  const parted = new Set(view.conflicts.map(({ path }) => path))
  const paths = Object.entries(view.paths).filter(([path]) => !parted.has(path))
  const unread = view.beside.filter(({ path }) => path !== lifePath && !Object.hasOwn(view.paths, path))
  return [
    ...(view.alive && view.beside.some(({ path }) => path === lifePath)
      ? ['  whether it exists: yes', ...besideLines(view, lifePath, writers, output)]
      : []),
    ...paths.flatMap(([path, value]) => [...pathLines(path, value), ...besideLines(view, path, writers, output)]),
    ...unread.flatMap(({ path }) => [...pathLines(path, null), ...besideLines(view, path, writers, output)]),
  ]
}

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
export const describeObject = (
  view: ObjectView,
  output: Output,
  { writers = noNames, now = Date.now() }: { readonly writers?: Writers; readonly now?: number } = {},
): string[] => {
  const { conflicts, set_aside } = view
  return [
    `${plain(view.class)} ${plain(view.object)} (${stateLine(view, output)}), changed ${relativeTo(view.changed_at / 1000, now)}`,
    ...readLines(view, writers, output),
    ...conflictLines(view, writers, output),
    ...(conflicts.length === 0 ? [] : ['What is in conflict awaits you: `lf gateway sync status --conflicts`.']),
    ...deletedLines(view),
    ...(set_aside === null ? [] : setAsideLines(view, set_aside, output)),
    ...(set_aside === null && view.pending > 0 ? [waitLine(view)] : []),
  ]
}
